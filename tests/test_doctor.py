"""Examine a set-up on engines that answer: what is wrong is named, and nothing stays behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from provisioner import assembly, cli, doctor, operations, settings
from provisioner.demo import portal as fake_portal
from provisioner.domain import findings
from tests import memory_store

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
_MOTO_IGNORES = {
    "list a name that begins like its own",
    "list the producer's prefix",
    "list with an empty prefix",
    "list without a prefix",
    "copy it",
    "copy it in parts",
    "list beside the port",
    "list the port",
    "delete own objects in a batch",
}
"""What moto lets through, or refuses, whatever a policy says of it."""


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    with fake_portal.RunningPortal(fake_portal.FakePortal(style="main")) as running:
        running.portal.state.create_product("sales", name="Sales")
        yield {
            "PROV_DPP_API_URL": running.url,
            "WEBHOOK_SECRET": "demo-secret-key",
            "PROV_TEMPLATE_OUTPUT_PATH": str(tmp_path / "products"),
            "PROV_DATABASE_URL": f"sqlite:///{tmp_path}/var/provisioner.db",
        }


def on(engine: engines.Engine, environ: dict[str, str]) -> dict[str, str]:
    return environ | {
        "S3_ENDPOINT": engine.endpoint,
        "S3_BUCKET": engine.name("examined"),
        "S3_ACCESS_KEY": engine.admin.id,
        "S3_SECRET_KEY": engine.admin.secret,
    }


def examined(
    environ: dict[str, str], tmp_path: Path, *, scoping: bool = True
) -> tuple[doctor.Report, assembly.Parts]:
    read = settings.load(environ, cwd=tmp_path, serving=True)
    with operations.opened(read) as parts:
        return doctor.examine(parts, proves_scoping=scoping), parts


def of(report: doctor.Report, about: str) -> findings.Finding:
    (found,) = [each for each in report.findings if each.about == about]
    return found


def test_an_engine_that_does_not_enforce_policies_is_found_out(
    moto: engines.Engine, environ: dict[str, str], tmp_path: Path
) -> None:
    given = on(moto, environ)
    report, _ = examined(given, tmp_path)
    broken = {each.what for each in report.attempts if not each.as_promised}
    assert broken
    assert broken <= _MOTO_IGNORES
    assert "copy it" in broken
    assert of(report, "scoping").verdict is findings.Verdict.BAD
    assert not report.well
    others = {each.verdict for each in report.findings if each.about != "scoping"}
    assert findings.Verdict.BAD not in others


def test_nothing_of_an_examination_stays_behind(
    moto: engines.Engine, environ: dict[str, str], tmp_path: Path
) -> None:
    given = on(moto, environ)
    before = {user["UserName"] for user in moto.iam().list_users()["Users"]}
    _, parts = examined(given, tmp_path)
    assert {user["UserName"] for user in moto.iam().list_users()["Users"]} == before
    listed = moto.s3().list_objects_v2(Bucket=given["S3_BUCKET"])
    assert listed.get("KeyCount", 0) == 0
    assert list((tmp_path / "products").glob("[!.]*")) == []
    assert parts.settings.s3_bucket == given["S3_BUCKET"]


@pytest.mark.engine
@pytest.mark.parametrize("name", ["rgw", "minio"])
def test_a_real_engine_keeps_every_promise(
    name: str, request: pytest.FixtureRequest, environ: dict[str, str], tmp_path: Path
) -> None:
    engine: engines.Engine = request.getfixturevalue(name)
    given = on(engine, environ)
    report, _ = examined(given, tmp_path)
    assert [each for each in report.attempts if not each.as_promised] == []
    assert len(report.attempts) > 30
    assert of(report, "scoping").verdict is findings.Verdict.GOOD
    assert name in of(report, "issuer").told
    assert report.well
    listed = engine.s3().list_objects_v2(Bucket=given["S3_BUCKET"])
    assert listed.get("KeyCount", 0) == 0


def test_an_engine_that_does_not_answer_is_said_and_nothing_is_tried_with_it(
    environ: dict[str, str], tmp_path: Path
) -> None:
    report, _ = examined(environ | {"S3_ENDPOINT": "http://127.0.0.1:9"}, tmp_path)
    assert of(report, "S3 engine").verdict is findings.Verdict.BAD
    assert of(report, "scoping").verdict is findings.Verdict.SKIPPED
    assert of(report, "portal").verdict is findings.Verdict.GOOD
    assert not report.well


@pytest.mark.parametrize(
    ("changes", "about", "verdict"),
    [
        ({"PROV_DPP_API_URL": "http://127.0.0.1:9"}, "portal", findings.Verdict.BAD),
        ({"PROV_RESYNC_SECOND": "5"}, "settings", findings.Verdict.DOUBTFUL),
        ({"PROV_ALLOW_UNSIGNED": "true"}, "webhook proofs", findings.Verdict.DOUBTFUL),
        ({"PROV_TEMPLATE_PATH": "broken"}, "template", findings.Verdict.BAD),
        ({"PROV_TEMPLATE_CONTEXT": "motor=x"}, "template", findings.Verdict.BAD),
        (
            {"PROV_DUCKDB_EXTENSION_DIRECTORY": "empty"},
            "DuckDB extensions",
            findings.Verdict.DOUBTFUL,
        ),
        ({"PROV_TEMPLATE_OUTPUT_PATH": "taken"}, "output folder", findings.Verdict.BAD),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else None,
)
def test_what_is_wrong_is_named(
    changes: dict[str, str],
    about: str,
    verdict: findings.Verdict,
    moto: engines.Engine,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    for folder in ("broken", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "broken" / "cookiecutter.json").write_text("{}")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / ".provisioner").write_text("a file in the way")
    report, _ = examined(on(moto, environ) | changes, tmp_path, scoping=False)
    assert of(report, about).verdict is verdict
    assert {
        each.about for each in report.findings if each.verdict is not findings.Verdict.GOOD
    } == {about}
    assert report.well is (verdict is not findings.Verdict.BAD)


def test_a_clock_that_is_off_is_found(
    moto: engines.Engine, environ: dict[str, str], tmp_path: Path
) -> None:
    read = settings.load(on(moto, environ), cwd=tmp_path, serving=True)
    with operations.opened(read) as parts:
        late = memory_store.SettableClock(parts.clock() + timedelta(minutes=20))
        report = doctor.examine(dataclasses.replace(parts, clock=late), proves_scoping=False)
    assert of(report, "clock").verdict is findings.Verdict.BAD
    assert of(report, "clock").told.startswith(("1199 s", "1200 s", "1201 s"))


@pytest.mark.parametrize(("flags", "code"), [(["--no-scoping"], 0), ([], 1)])
def test_the_exit_code_says_it_all(
    flags: list[str],
    code: int,
    moto: engines.Engine,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = on(moto, environ)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.cli, ["doctor", *flags], env=given)
    assert done.exit_code == code
    assert "portal: answers, and lists 1 products" in done.output
    assert given["S3_SECRET_KEY"] not in done.output
    assert ("refused" in done.output) is (code == 1)
