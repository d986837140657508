"""The benchmarks run and show every row. What they measure is no test: machines are noisy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import rotation, table

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
    "memory (RSS)",
    "provisioner --help",
    "start -> answering",
)


@pytest.mark.torture
def test_the_benchmarks_run_and_show_every_row() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    assert [row for row in ROWS if row not in done.stdout] == []


@pytest.mark.engine
def test_keys_are_measured_on_every_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--rotation"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    for engine in rotation.installed():
        assert f"{engine}: one product, with its first key, p50" in said
        assert f"{engine}: one rotation, p50" in said
    assert said.count("0 failed") == len(rotation.installed())


def test_bars_are_met_from_their_side() -> None:
    assert table.Row(what="", value=3, unit="ms", bar=3).met
    assert not table.Row(what="", value=4, unit="ms", bar=3).met
    assert not table.Row(what="", value=4, unit="%", bar=60, at_least=True).met
    assert table.Row(what="", value=4, unit="ms").met is None


def test_the_99th_percentile_leaves_one_in_a_hundred_above() -> None:
    assert table.p99(range(1, 101)) == 99
    assert table.p99([7.0]) == 7.0
