"""Upgrade by command, on an engine that issues real keys: foreseen, a few first, then the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click.testing
import pytest

from provisioner import app, assembly, cli, errors, model, operations, rollout, settings
from provisioner.demo import portal as fake_portal
from provisioner.loop import fleet
from provisioner.loop import worker as working
from tests import memory_store

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
NAMES = ("hr", "orders", "sales")


def straight(keys: Iterable[model.Key], title: str, total: int) -> Iterator[model.Key]:
    yield from keys


class Bench:
    """Three products in order that do not follow their template by themselves."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.top = folder / "template" / "{{cookiecutter.project_name}}"
        self.top.mkdir(parents=True)
        self.declare('{"project_name": "", "engine": ["duckdb", "ducklake"], "_version": "1.0"}')
        self.release("old\n")
        self.environ = {
            **environ,
            "PROV_TEMPLATE_PATH": str(self.top.parent),
            "PROV_TEMPLATE_UPDATES": "manual",
        }
        self.read = settings.load(self.environ, cwd=folder, serving=False)
        self.products = folder / "demo/products"

    def declare(self, text: str) -> None:
        (self.top.parent / "cookiecutter.json").write_text(text)

    def release(self, text: str) -> None:
        (self.top / "a.sql").write_text(f"-- {{{{ cookiecutter.engine }}}}\n\n{text}")

    def run(self, *arguments: str, **environ: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(
            cli.cli, list(arguments), env={**self.environ, **environ}
        )

    def files(self) -> dict[str, str]:
        return {name: (self.products / name / "a.sql").read_text() for name in NAMES}


@pytest.fixture
def bench(moto: engines.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.chdir(tmp_path)
    with fake_portal.RunningPortal(fake_portal.FakePortal(style="main")) as running:
        for name in NAMES:
            running.portal.state.create_product(name, name=name)
        bench = Bench(
            tmp_path,
            {
                "PROV_DPP_API_URL": running.url,
                "PROV_ISSUER": "iam",
                "S3_ENDPOINT": moto.endpoint,
                "S3_BUCKET": moto.name("upgraded"),
                "S3_ACCESS_KEY": moto.admin.id,
                "S3_SECRET_KEY": moto.admin.secret,
                "PROV_DUCKDB_EXTENSION_DIRECTORY": "not-filled",
            },
        )
        with operations.opened(bench.read) as parts:
            outcomes = operations.reconcile(parts, None, straight)
            assert {outcome.status for outcome in outcomes} == {"done"}
        yield bench


def test_foreseen_then_a_canary_then_the_rest(bench: Bench) -> None:
    old = bench.files()
    bench.release("new\n")
    (bench.products / "sales/a.sql").write_text("-- duckdb\n\nmine\n")

    foreseen = bench.run("upgrade", "--all", "--dry-run")
    assert foreseen.exit_code == 3, "one will be in conflict"
    assert all(name in foreseen.stdout for name in NAMES)
    assert "conflict" in foreseen.stdout
    assert {**bench.files(), "sales": old["sales"]} == old

    first = bench.run("upgrade", "--all", "--canary", "1")
    assert first.exit_code == 0
    assert "1 upgraded, 2 left" in first.stderr
    assert [name for name, text in bench.files().items() if text.endswith("new\n")] == ["hr"]

    rest = bench.run("upgrade", "--all")
    assert rest.exit_code == 3
    assert bench.files()["sales"].endswith("mine\n")
    assert (bench.products / "sales/a.sql.template-new").read_text().endswith("new\n")
    assert "hr" not in rest.stdout
    again = bench.run("upgrade", "--all")
    assert (again.exit_code, again.stdout) == (
        0,
        "Every workspace is at the template as it is now.\n",
    )

    fleet_view = bench.run("status", "--templates")
    assert [line.split()[0] for line in fleet_view.stdout.splitlines() if "1.0" in line] == [
        *NAMES,
        "3",
    ]
    assert "conflicts" in fleet_view.stdout
    assert "a.sql.template-new" in bench.run("status", "sales").stdout
    lines = bench.run("status", "--templates", "--json").stdout.splitlines()
    said = {each["namespace"]: each for each in map(json.loads, lines)}
    assert {name: (each["standing"], each["conflicts"]) for name, each in said.items()} == {
        "hr": ("current", []),
        "orders": ("current", []),
        "sales": ("conflicts", ["a.sql"]),
    }


def test_a_template_that_does_not_render_changes_nothing_and_says_why(bench: Bench) -> None:
    before = bench.files()
    bench.release("{% if %}")

    foreseen = bench.run("upgrade", "sales", "--dry-run")
    done = bench.run("upgrade", "--all")

    assert (foreseen.exit_code, done.exit_code) == (1, 1)
    assert "does not render" in foreseen.stderr
    assert "does not render" in done.stdout
    assert bench.files() == before


def test_choices_reach_existing_workspaces_and_wrong_ones_are_refused(bench: Bench) -> None:
    wrong = bench.run("upgrade", "--all", PROV_TEMPLATE_CONTEXT="engine=oracle")
    assert wrong.exit_code == 1
    assert "choices=duckdb, ducklake" in wrong.stdout.replace("\n", "").replace("  ", "")
    missing = bench.run("upgrade", "sales", "--dry-run", PROV_TEMPLATE_CONTEXT="motor=x")
    assert "declared=engine" in missing.stderr

    right = bench.run("upgrade", "--all", PROV_TEMPLATE_CONTEXT="engine=ducklake")

    assert right.exit_code == 0
    assert set(bench.files().values()) == {"-- ducklake\n\nold\n"}


def test_beside_a_service_the_command_watches_it_work(bench: Bench) -> None:
    bench.release("new\n")
    with operations.opened(bench.read) as serving, operations.opened(bench.read) as beside:
        assert serving.store.database.acquire()
        duty = working.Duty(
            queue=serving.queue,
            reconciler=serving.works,
            portal=serving.portal,
            metrics=serving.metrics,
            clock=serving.clock,
        )

        def serve(seconds: float) -> None:
            lease = serving.queue.lease("service")
            if lease is not None:
                working.run_once(duty, lease, lambda: None)

        berths = rollout.chosen(beside, None, canary=None)
        outcomes = rollout.roll_out(beside, berths, straight, sleep=serve)
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert all(text.endswith("new\n") for text in bench.files().values())


def test_what_was_interrupted_is_gone_on_with(bench: Bench) -> None:
    def interrupted(keys: Iterable[model.Key], title: str, total: int) -> Iterator[model.Key]:
        yield next(iter(keys))
        raise KeyboardInterrupt

    bench.release("new\n")
    with operations.opened(bench.read) as parts:
        berths = sorted(  # in the order in which they are leased
            rollout.chosen(parts, None, canary=None), key=lambda each: each.record.key
        )
        with pytest.raises(KeyboardInterrupt):
            rollout.roll_out(parts, berths, interrupted)
        assert len(rollout.chosen(parts, None, canary=None)) == 2
        rollout.roll_out(parts, rollout.chosen(parts, None, canary=None), straight)
        assert rollout.chosen(parts, None, canary=None) == ()


def test_a_changed_template_queues_every_product_and_then_none(bench: Bench) -> None:
    following = {**bench.environ, "PROV_TEMPLATE_UPDATES": "auto"}
    read = settings.load(following, cwd=bench.products.parents[1], serving=False)
    clock = memory_store.SettableClock(assembly.utc_now())
    parts = assembly.assemble(read, clock=clock)
    try:
        operations.reconcile(parts, None, straight)
        assert parts.resync.run().queued == 0
        bench.release("new\n")
        clock.advance(2)
        assert parts.resync.run().queued == 3
        keys = tuple(parts.store.records.digests())
        outcomes = list(operations.work(parts, keys, straight, title="following"))
        assert {outcome.actions for outcome in outcomes} == {("template:upgrade",)}
        clock.advance(2)
        assert parts.resync.run().queued == 0
    finally:
        parts.close()
    assert all(text.endswith("new\n") for text in bench.files().values())


def test_workspaces_are_counted_by_how_they_stand(bench: Bench) -> None:
    def counted(parts: assembly.Parts) -> dict[str, float]:
        (family,) = (f for f in parts.metrics.workspaces.collect())
        return {sample.labels["template"]: sample.value for sample in family.samples}

    with operations.opened(bench.read) as parts:
        service = app.Service(parts)
        service._fleet.tick()
        assert counted(parts) == {"current": 3, "behind": 0, "conflicts": 0, "none": 0}
        bench.release("new\n")
        service._fleet.tick()
        assert counted(parts)["behind"] == 0, "not every second"
        again = fleet.Fleet(
            parts.store.records,
            template=parts.template,
            clock=parts.clock,
            every_seconds=60,
            metrics=parts.metrics,
        )
        again.tick()
        assert counted(parts) == {"current": 0, "behind": 3, "conflicts": 0, "none": 0}


def test_what_is_not_there_cannot_be_upgraded(bench: Bench) -> None:
    assert bench.run("upgrade", "nobody").exit_code == 1
    assert bench.run("upgrade").exit_code == 2
    assert bench.run("upgrade", "sales", "--canary", "1").exit_code == 2
    refused = bench.run("upgrade", "--all", PROV_MODE="observe", PROV_TEMPLATE_CONTEXT="engine=x")
    assert refused.exit_code == 1
    with operations.opened(bench.read) as parts, pytest.raises(errors.PermanentError):
        rollout.chosen(parts, "nobody", canary=None)
