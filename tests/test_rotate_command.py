"""Rotate by command, on an engine that issues real keys: done here, watched, or gone on with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from provisioner import assembly, cli, errors, model, operations, rotation, settings
from provisioner.demo import portal as fake_portal
from provisioner.loop import worker

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
NAMES = ("hr", "orders", "sales")


def straight(keys: Iterable[model.Key], title: str, total: int) -> Iterator[model.Key]:
    yield from keys


@pytest.fixture
def read(moto: engines.Engine, tmp_path: Path) -> Iterator[settings.Settings]:
    """Describe a service of three products that are in order."""
    with fake_portal.RunningPortal(fake_portal.FakePortal(style="main")) as running:
        for name in NAMES:
            running.portal.state.create_product(name, name=name)
        environ = {
            "PROV_DPP_API_URL": running.url,
            "PROV_ISSUER": "iam",
            "S3_ENDPOINT": moto.endpoint,
            "S3_BUCKET": moto.name("rotated"),
            "S3_ACCESS_KEY": moto.admin.id,
            "S3_SECRET_KEY": moto.admin.secret,
            "PROV_TEMPLATE_PATH": str(_template(tmp_path / "template")),
            "PROV_DUCKDB_EXTENSION_DIRECTORY": "not-filled",
        }
        read = settings.load(environ, cwd=tmp_path, serving=False)
        with operations.opened(read) as parts:
            outcomes = operations.reconcile(parts, None, straight)
            assert {outcome.status for outcome in outcomes} == {"done"}
        yield read


def _template(folder: Path) -> Path:
    inside = folder / "{{cookiecutter.project_name}}"
    inside.mkdir(parents=True)
    (folder / "cookiecutter.json").write_text('{"project_name": ""}')
    (inside / "README.md").write_text("small")
    return folder


def keys_of(parts: assembly.Parts) -> dict[str, str]:
    return {
        record.namespace: record.credentials.current.id
        for record in parts.store.records.known()
        if record.credentials.current
    }


def test_without_a_service_the_command_does_the_work(read: settings.Settings) -> None:
    with operations.opened(read) as parts:
        before = keys_of(parts)
        (outcome,) = rotation.rotate(
            parts, rotation.chosen(parts, "sales"), straight, compromised=False
        )
        after = keys_of(parts)
        assert outcome.status == "done"
        assert {name for name in NAMES if before[name] != after[name]} == {"sales"}


@pytest.mark.parametrize("compromised", [False, True])
def test_what_was_interrupted_goes_on_where_it_stopped(
    read: settings.Settings, compromised: bool
) -> None:
    def interrupted(keys: Iterable[model.Key], title: str, total: int) -> Iterator[model.Key]:
        yield next(iter(keys))
        raise KeyboardInterrupt

    with operations.opened(read) as parts:
        before = keys_of(parts)
        keys = tuple(sorted(rotation.chosen(parts, None)))  # the order in which they are leased
        with pytest.raises(KeyboardInterrupt):
            rotation.rotate(parts, keys, interrupted, compromised=compromised)
    with operations.opened(read) as parts:
        once = keys_of(parts)
        left = rotation.unfinished(parts, keys, compromised=compromised)
        assert len(left) == 2
        assert rotation.unfinished(parts, keys, compromised=not compromised) == ()
        rotation.rotate(parts, left, straight, compromised=compromised, resume=True)
        after = keys_of(parts)
        assert rotation.unfinished(parts, keys, compromised=compromised) == ()
    assert all(after[name] != before[name] for name in NAMES)
    (first,) = (name for name in NAMES if once[name] != before[name])
    assert after[first] == once[first]


def test_beside_a_service_the_command_watches_it_work(read: settings.Settings) -> None:
    with operations.opened(read) as serving, operations.opened(read) as beside:
        assert serving.store.database.acquire()
        before = keys_of(serving)
        duty = worker.Duty(
            queue=serving.queue,
            reconciler=serving.works,
            portal=serving.portal,
            metrics=serving.metrics,
            clock=serving.clock,
        )

        def serve(seconds: float) -> None:
            lease = serving.queue.lease("service")
            if lease is not None:
                worker.run_once(duty, lease, lambda: None)

        outcomes = rotation.rotate(
            beside, rotation.chosen(beside, None), straight, compromised=False, sleep=serve
        )
        assert [outcome.status for outcome in outcomes] == ["done"] * 3
        after = keys_of(serving)
    assert all(after[name] != before[name] for name in NAMES)


def test_a_product_that_a_person_must_look_at_ends_the_wait(read: settings.Settings) -> None:
    with operations.opened(read) as serving, operations.opened(read) as beside:
        assert serving.store.database.acquire()
        (key,) = rotation.chosen(beside, "sales")

        def refuse(seconds: float) -> None:
            lease = serving.queue.lease("service")
            if lease is not None:
                refused = model.Outcome(key=lease.key, status="condition", message="NotOurs")
                serving.queue.done(lease, refused)

        (outcome,) = rotation.rotate(beside, (key,), straight, compromised=False, sleep=refuse)
        assert (outcome.status, outcome.message) == ("condition", "NotOurs")
        assert rotation.unfinished(beside, (key,), compromised=False) == (key,)


def test_what_came_of_a_product_before_it_was_asked_for_is_no_answer(
    read: settings.Settings,
) -> None:
    with operations.opened(read) as serving, operations.opened(read) as beside:
        assert serving.store.database.acquire()
        (key,) = rotation.chosen(beside, "sales")
        ended = (model.Outcome(key=key, status="condition", message=why) for why in ("old", "new"))

        def refuse() -> None:
            serving.queue.touch([key], model.Priority.EVENT)
            lease = serving.queue.lease("service")
            assert lease is not None
            serving.queue.done(lease, next(ended))

        looks = 0

        def busy(seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 10:
                refuse()

        refuse()
        (outcome,) = rotation.rotate(beside, (key,), straight, compromised=False, sleep=busy)
        assert (outcome.status, outcome.message) == ("condition", "new")


def test_what_has_no_keys_cannot_be_rotated(read: settings.Settings) -> None:
    unknown = pytest.raises(errors.PermanentError, match="knows no such")
    with operations.opened(read) as parts, unknown:
        rotation.chosen(parts, "nobody")


def test_who_only_observes_rotates_nothing(read: settings.Settings) -> None:
    watching = dataclasses.replace(read, mode=type(read.mode)("observe"))
    with operations.opened(watching) as parts:
        before = keys_of(parts)
        with pytest.raises(errors.Conflict, match="observe"):
            rotation.rotate(parts, rotation.chosen(parts, None), straight, compromised=True)
        assert keys_of(parts) == before


def test_a_service_that_keeps_trying_is_told_of_once(read: settings.Settings) -> None:
    told: list[model.Outcome] = []
    looks = iter(range(100))
    with operations.opened(read) as serving, operations.opened(read) as beside:
        assert serving.store.database.acquire()
        (key,) = rotation.chosen(beside, "sales")

        def fail_for_long(seconds: float) -> None:
            lease = serving.queue.lease("service")
            if lease is None:
                return
            if next(looks) < 20:
                late = model.Outcome(key=lease.key, status="retry", message="no answer")
                serving.queue.retry(lease, late, 0)
            else:
                serving.works.reconcile(lease, lambda: None)

        (outcome,) = rotation.rotate(
            beside, (key,), straight, compromised=False, tell=told.append, sleep=fail_for_long
        )
    assert outcome.status == "done"
    assert told == [model.Outcome(key=key, status="retry", message="no answer")]


def test_whoever_rotates_all_hears_that_only_what_was_left_is_done(
    read: settings.Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "PROV_DPP_API_URL": read.dpp_api_url,
        "PROV_ISSUER": "iam",
        "S3_ENDPOINT": read.s3_endpoint,
        "S3_BUCKET": read.s3_bucket,
        "S3_ACCESS_KEY": read.s3_access_key,
        "S3_SECRET_KEY": read.s3_secret_key,
        "PROV_TEMPLATE_PATH": str(read.template_path),
        "PROV_DUCKDB_EXTENSION_DIRECTORY": "not-filled",
    }
    with operations.opened(read) as parts:
        parts.store.asks.ask(rotation.chosen(parts, "sales"), model.Ask.ROTATE)
    first = CliRunner().invoke(cli.cli, ["rotate", "--all"], env=environ)
    second = CliRunner().invoke(cli.cli, ["rotate", "--all"], env=environ)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "what an earlier call had left, 1 of 3: call again" in first.stderr
    assert "earlier call" not in second.stderr
    assert all(name in second.stdout for name in NAMES)
