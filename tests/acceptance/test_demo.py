"""The demo is a promise too: run it as a newcomer does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = (sys.executable, "-m", "provisioner", "demo")
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "SSL_CERT_FILE": os.environ["SSL_CERT_FILE"],
    "PYTHONPATH": str(Path(__file__).parents[2]),
    **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
}
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


@pytest.mark.workspace
def test_the_demo_tells_its_story_and_every_call_is_answered_as_promised(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--folder", str(tmp_path / "demo"), "--picture", "tried.svg"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every call was answered as promised" in done.stdout
    assert "It does not enforce" in done.stdout
    assert done.stdout.count("403 denied") >= 6
    assert (tmp_path / "demo" / "products" / "sales" / "config.yaml").exists()
    assert (tmp_path / "tried.svg").exists()


def test_the_demo_does_not_empty_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = subprocess.run(
        [*DEMO, "--folder", str(tmp_path)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_demo_refuses_a_path_that_cannot_stand_in_env(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--folder", str(tmp_path / "my demo")],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("--folder: expects a path of letters, digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(
            pytest.param(each, marks=pytest.mark.torture)
            for each in (signal.SIGTERM, signal.SIGHUP)
        ),
    ],
)
def test_a_demo_that_is_told_to_end_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    ports: list[int] = []
    with subprocess.Popen(
        [*DEMO, "--folder", str(tmp_path / "demo")],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            ports += [int(port) for port in _ADDRESS.findall(line)]
            if len(ports) == 3:  # S3, the portal and the provisioner
                break
        process.send_signal(number)
        process.wait(20)
    assert len(ports) == 3
    assert [port for port in ports if _answers(port)] == []


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
