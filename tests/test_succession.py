"""Adopt and purge as commands: on an engine that issues real keys, here or beside a service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from provisioner import cli, errors, model, operations, succession
from provisioner.demo import portal as fake_portal
from tests import lifetime
from tests.lifetime import Lifetime, straight

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]


@pytest.fixture
def life(moto: engines.Engine, tmp_path: Path) -> Iterator[Lifetime]:
    """Sales was deleted; an heir has its name."""
    with fake_portal.RunningPortal(fake_portal.FakePortal(style="main")) as portal:
        life = lifetime.Lifetime(moto, portal, tmp_path)
        life.settle(life.sales)
        assert life.put(life.key("sales"), "sales/x")
        life.portal.delete_product(life.sales)
        life.settle(life.sales)
        yield life
        life.close()


@pytest.fixture
def runner(life: Lifetime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    for name, value in life.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return CliRunner()


def test_who_purges_is_asked_whether_they_mean_it(life: Lifetime, runner: CliRunner) -> None:
    life.close()
    answer = runner.invoke(cli.cli, ["purge", "sales"], input="n\n")
    assert answer.exit_code == 1
    assert life.sales in answer.output
    assert "sales/x" in life.objects()

    answer = runner.invoke(cli.cli, ["purge", "sales"], input="y\n")
    assert answer.exit_code == 0
    assert life.objects() == set()
    assert isinstance(_failed(runner, "purge", "sales", "--yes"), errors.PermanentError)
    assert "purged" in runner.invoke(cli.cli, ["status", "sales"]).output


def test_an_heir_adopts_by_a_command(life: Lifetime, runner: CliRunner) -> None:
    heir = life.portal.create_product("sales", name="Heir")
    life.settle(heir)
    life.close()
    answer = runner.invoke(cli.cli, ["adopt", "sales"])
    assert answer.exit_code == 0, answer.output
    assert life.get(life.key("sales"), "sales/x")
    assert isinstance(_failed(runner, "adopt", "sales"), errors.PermanentError)


def test_a_refusal_ends_a_command_with_1(life: Lifetime, runner: CliRunner) -> None:
    life.settle(life.marketing)
    life.portal.rename(life.marketing, "campaigns")
    life.settle(life.marketing)
    heir = life.portal.create_product("marketing", name="Heir")
    life.settle(heir)
    life.close()
    answer = runner.invoke(cli.cli, ["adopt", heir])
    assert answer.exit_code == 1
    assert "condition" in answer.output


def _failed(runner: CliRunner, *words: str) -> BaseException | None:
    answer = runner.invoke(cli.cli, list(words))
    assert answer.exit_code == 1
    return answer.exception


def test_beside_a_service_a_wish_is_only_noted(life: Lifetime) -> None:
    with operations.opened(life.settings) as beside:
        (outcome,) = succession.ask(
            beside, succession.dead(beside, "sales"), model.Ask.PURGE, straight
        )
    assert outcome.status == "queued"
    assert "sales/x" in life.objects()
    life.settle(life.sales)
    assert life.objects() == set()


def test_a_name_that_several_left_is_no_name(life: Lifetime) -> None:
    assert life.purge(life.sales).status == "done"
    second = life.portal.create_product("sales", name="Second")
    life.settle(second)
    life.portal.delete_product(second)
    life.settle(second)
    assert life.record(second).released_at is not None
    with operations.opened(life.settings) as parts:
        assert succession.dead(parts, "sales").key.id == second  # the first one left nothing
        third = life.portal.create_product("sales", name="Third")
        life.settle(third)
        life.portal.delete_product(third)
        life.settle(third)
        with pytest.raises(errors.PermanentError, match="by id"):
            succession.dead(parts, "sales")
        assert succession.dead(parts, third).key.id == third


def test_what_lives_or_is_unknown_is_neither_heir_nor_dead(life: Lifetime) -> None:
    life.settle(life.marketing)
    with operations.opened(life.settings) as parts:
        for name in ("marketing", "nobody"):
            with pytest.raises(errors.PermanentError):
                succession.dead(parts, name)
            with pytest.raises(errors.PermanentError):
                succession.heir(parts, name)


def test_who_observes_touches_nothing(life: Lifetime, runner: CliRunner) -> None:
    life.close()
    environ = {"PROV_MODE": "observe"}
    answer = runner.invoke(cli.cli, ["purge", "sales", "--yes"], env=environ)
    assert isinstance(answer.exception, errors.Conflict)
    assert "sales/x" in life.objects()
