"""The demo is a promise too: run it as a newcomer does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.workspace
def test_the_demo_tells_its_story_and_every_call_is_answered_as_promised(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "provisioner", "demo", "--folder", str(tmp_path / "demo")],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every call was answered as promised" in done.stdout
    assert "It does not enforce" in done.stdout
    assert done.stdout.count("403 denied") >= 6
    assert (tmp_path / "demo" / "products" / "sales" / "config.yaml").exists()


def test_the_demo_does_not_empty_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "provisioner", "demo", "--folder", str(tmp_path)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert (tmp_path / "thesis.txt").read_text() == "mine"
