"""Measure how long the program takes until it says something."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time

from benchmarks import world
from benchmarks.table import Row, median


def start(here: world.World, times: int) -> list[Row]:
    """Measure `--help`, and from the start to the first answer."""
    helps = [_help() for _ in range(times)]
    return [
        Row(what="provisioner --help", value=median(helps), unit="s", bar=0.3),
        answering(here, times),
    ]


def answering(here: world.World, times: int) -> Row:
    """Measure from the start of the process to its first answer."""
    answers = [_answering(here) for _ in range(times)]
    return Row(what="start -> answering", value=median(answers), unit="s", bar=1.5)


def _help() -> float:
    command = [sys.executable, "-m", "provisioner", "--help"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _answering(here: world.World) -> float:
    command = [sys.executable, "-m", "provisioner", "serve"]
    with here.made.log.open("ab") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=here.made.root, env=here.environment, stdout=log, stderr=log
        )
        try:
            while not _answers(here.port):
                if process.poll() is not None:
                    raise RuntimeError(here.made.log.read_text()[-2000:])
                time.sleep(0.005)
            return time.perf_counter() - started
        finally:
            process.terminate()
            process.wait(20)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as opened:
        opened.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return opened.recv(64).startswith(b"HTTP/1.1 200")
    return False
