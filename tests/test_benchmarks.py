"""The benchmarks run and show every row. What they measure is no test: machines are noisy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import receiver, rotation, table
from provisioner.demo.portal import webhooks
from provisioner.domain import standard_webhooks
from tests.webhook_sink import WebhookSink

pytest_plugins = ["tests.database_server"]

ROOT = Path(__file__).resolve().parents[1]
ROWS = (
    "idle product create",
    "rendering alone",
    "acknowledgement, one sender, p50",
    "acknowledgement, one sender, p99",
    "acknowledgements/s",
    "processor time",
    "revocation -> refused",
    "resync of products in order",
    "written by it",
    "portal requests a product",
    "memory (RSS)",
    "the most it held",
    "one event: delivery sent -> reconciled",
    "of what it takes with few",
    "provisioner --help",
    "start -> answering",
)


def run(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.torture
def test_the_benchmarks_run_and_show_every_row(tmp_path: Path) -> None:
    said = run("--json", str(tmp_path / "figures.json"))
    assert [row for row in ROWS if row not in said] == []
    figures = json.loads((tmp_path / "figures.json").read_text())["bars"]
    assert {each["of"] for each in figures} == {"SQLite"}
    written = next(each for each in figures if "written by it" in each["what"])
    assert written["value"] == 0


@pytest.mark.torture
@pytest.mark.usefixtures("postgresql")  # another is started; this one says where there is none
def test_growth_is_shown_by_the_number_of_products_over_a_restart_on_postgresql() -> None:
    said = run("--store", "postgresql", "--products", "3,6")
    assert "| what | bar | 3 | 6 |" in said
    assert "idle product create, p50" in said


@pytest.mark.torture
@pytest.mark.workspace
def test_the_work_of_a_team_is_measured() -> None:
    said = run("--workspace")
    for row in ("first `sqlmesh plan`", "publish.py", "`sqlmesh test`", "upgrade --all"):
        assert row in said


@pytest.mark.parametrize("secret", ["plain", "whsec_c2VjcmV0", ""])
def test_another_receiver_gets_deliveries_that_prove_themselves(secret: str) -> None:
    with WebhookSink() as sink:
        lines = receiver.measure(f"{sink.url}/hook", secret, 64)
    assert [(line.wire, line.senders, dict(line.answers)) for line in lines] == [
        (wire, senders, {"200": 64}) for wire in ("v1", "v2") for senders in (1, 8, 64)
    ]
    assert "| v2 | 64 |" in receiver.show(lines)
    for each in sink.received:
        assert each.path == "/hook"
        assert each.header("Sign") == (
            webhooks.sign(secret, json.loads(each.body)) if secret == "plain" else None
        )
        if standard_webhooks.is_secret(secret):
            identity, at = each.header("webhook-id") or "", each.header("webhook-timestamp") or ""
            signed = standard_webhooks.sign(secret, identity.encode(), at.encode(), each.body)
            assert each.header("webhook-signature") == signed.decode()


def test_what_a_receiver_refuses_is_counted_and_is_no_rate() -> None:
    with WebhookSink(status=401) as sink:
        lines = receiver.measure(sink.url, "wrong", 64)
    assert {tuple(line.answers.items()) for line in lines} == {(("401", 64),)}
    assert receiver.show(lines).count("| 0 | 64 x 401 |") == 6


@pytest.mark.parametrize("url", ["http://192.0.2.1/", "https://127.0.0.1/", "127.0.0.1:80"])
def test_nothing_but_this_machine_is_driven(url: str) -> None:
    with pytest.raises(SystemExit):
        receiver.measure(url, "", 1)


@pytest.mark.engine
def test_keys_are_measured_on_every_engine() -> None:
    said = " ".join(run("--rotation").split())
    for engine in rotation.installed():
        assert f"{engine}: one product, with its first key, p50" in said
        assert f"{engine}: one rotation, p50" in said
    assert said.count("0 failed") == len(rotation.installed())


def test_bars_are_met_from_their_side() -> None:
    assert table.Row(what="", value=3, unit="ms", bar=3).met
    assert not table.Row(what="", value=4, unit="ms", bar=3).met
    assert not table.Row(what="", value=4, unit="%", bar=60, at_least=True).met
    assert table.Row(what="", value=4, unit="ms").met is None


def test_figures_of_several_columns_stand_side_by_side() -> None:
    few = table.Row(what="  taken", value=3, unit="ms", bar=2, note="quick")
    many = table.Row(what="  taken", value=1234.5, unit="ms", bar=2)
    only = table.Row(what="held", value=0.5, unit="MiB")
    assert table.figures({"10": [few], "20": [many, only]}).splitlines() == [
        "| what | bar | 10 | 20 |",
        "| --- | --- | --- | --- |",
        "| taken | <= 2 ms | 3 ms **missed** | 1,234 ms **missed** |",
        "| held |  |  | 0.50 MiB |",
        "",
        "- taken (10): quick",
    ]


def test_the_99th_percentile_leaves_one_in_a_hundred_above() -> None:
    assert table.p99(range(1, 101)) == 99
    assert table.p99([7.0]) == 7.0
