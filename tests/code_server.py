"""Run the editor of the workspaces, as its image does, for a browser that a test drives."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PASSWORD = "coder"
_PROJECT = Path(__file__).parents[1]
_START_SECONDS = 60.0
# Without these Chromium asks for its maker's hosts.
_CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def missing() -> str | None:
    """Say what has to be installed before the editor and a browser can run; None if nothing."""
    if _program() is None:
        return "no code-server: scripts/code-server (its first lines name the packages it needs)"
    for name, package in (("chromium", "chromium"), ("node", "nodejs")):
        if shutil.which(name) is None:
            return f"no {name}: apt-get install {package}"
    return None


def _program() -> Path | None:
    """Return the program where `scripts/code-server` puts it."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    found = sorted(Path(cache, "dpp-provisioner").glob("code-server-*/complete"))
    return found[-1].parent / "node_modules/code-server/out/node/entry.js" if found else None


@contextlib.contextmanager
def serving(folder: Path, port: int, settings: dict[str, object]) -> Iterator[str]:
    """Run code-server with the user's settings of the image; yield its address."""
    program = _program()
    assert program is not None
    (folder / "data" / "User").mkdir(parents=True)
    (folder / "data" / "User" / "settings.json").write_text(json.dumps(settings))
    configuration = {
        "bind-addr": f"127.0.0.1:{port}",
        "auth": "password",
        "password": PASSWORD,
        "cert": False,
    }
    (folder / "config.yaml").write_text(json.dumps(configuration))
    command = [
        "node",
        str(program),
        f"--config={folder / 'config.yaml'}",
        f"--user-data-dir={folder / 'data'}",
        f"--extensions-dir={folder / 'extensions'}",
        "--disable-telemetry",
        "--disable-update-check",
        "--disable-workspace-trust",
        "--disable-getting-started-override",
    ]
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address, process, folder / "out")
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # with the terminals that it has started
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(home: Path) -> dict[str, str]:
    """Return what a container would have: no key, no setting; our tools where the image has its."""
    tools = Path(sys.executable).parent
    return {
        "HOME": str(home),
        "PATH": f"{tools}:{os.environ.get('PATH', os.defpath)}",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
    }


def _wait(address: str, process: subprocess.Popen[bytes], out: Path) -> None:
    ends = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, out.read_text()[-3000:]
        assert time.monotonic() < ends, out.read_text()[-3000:]
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/healthz").status_code == httpx.codes.OK:
                return
        time.sleep(0.05)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run the Chromium of this machine; skip where it, or the editor, is missing."""
    reason = missing()
    if reason is not None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright import sync_api

    with sync_api.sync_playwright() as driver:
        program = shutil.which("chromium")
        running = driver.chromium.launch(executable_path=program, args=_CHROMIUM)
        yield running
        running.close()
