"""Whatever is thrown at the port, honest deliveries are answered and nothing grows."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks import hostile, world
from provisioner.demo.portal import webhooks
from tests.acceptance import stand as stands
from tests.acceptance.stand import Stand

_PRODUCT = "3c289333-2d55-4aed-8bd5-85015a1567fe"
_MESSAGE = {
    "method": "PUT",
    "url": f"/api/v2/data_products/{_PRODUCT}/about",
    "query": "",
    "response": "",
    "status_code": 200,
}
_LONGEST_SECONDS = 4.0
"""The portal waits five seconds for an answer."""
_MIB = 1024 * 1024
_REFUSED = {"400", "401"}
_TIMES = (1, 2, 4, 8)
"""How much longer the next attack is where a busy machine answered nothing of the one before."""
_LONG = pytest.mark.torture


def deliver(port: int, request: bytes) -> tuple[bytes, float]:
    """Deliver as the portal does, on a connection of its own; return the status and the seconds."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as opened:
        opened.sendall(request)
        status = opened.recv(4096)[9:12]
    return status, time.monotonic() - started


def memory(process: stands.Process) -> int:
    """Return the most that was ever resident, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")
    )


def open_files(process: stands.Process) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


@contextlib.contextmanager
def few_files(most: int) -> Iterator[None]:
    """Let processes that start within open no more files than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("address", "seconds"),
    [
        pytest.param("127.0.0.1", 2, id="the portal's own address"),
        pytest.param("127.0.0.1", 6, id="the portal's own address, long", marks=_LONG),
        pytest.param("127.0.0.2", 6, id="elsewhere, long", marks=_LONG),
    ],
)
def test_honest_deliveries_are_answered_whatever_else_arrives(
    stand: Stand, address: str, seconds: int
) -> None:
    request = world.World.request(_MESSAGE, webhooks.sign(stands.SECRET, _MESSAGE))
    headers = {"Authorization": f"Bearer {stands.ADMIN_TOKEN}"}
    answers = []
    statuses: set[str] = set()
    connections = 0
    stand.anew = True
    with contextlib.ExitStack() as stack:
        with few_files(700):
            process = stack.enter_context(stand.service())
        assert deliver(stand.port, request)[0] == b"200"
        before, open_before = memory(process), open_files(process)
        for times in _TIMES:
            attack = hostile.start(
                stand.port, connections=1000, seconds=seconds * times, address=address
            )
            while attack.poll() is None:
                answers.append(deliver(stand.port, request))
                for path in ("/healthz", "/api/v1/deliveries?limit=1"):
                    shown = httpx.get(stand.url + path, headers=headers, timeout=10)
                    assert shown.status_code == 200
            seen = json.loads(attack.communicate()[0])
            statuses |= {status for kind in seen.values() for status in kind} - {"connections"}
            connections += sum(kind["connections"] for kind in seen.values())
            if statuses >= _REFUSED:
                break
        stand.until(lambda: open_files(process) <= open_before + 10, "the connections to go")
        grown = memory(process) - before
        assert httpx.get(f"{stand.url}/readyz").status_code == 200
    assert {status for status, _ in answers} == {b"200"}
    assert max(seconds for _, seconds in answers) < _LONGEST_SECONDS
    assert grown < 200 * _MIB
    assert statuses >= _REFUSED
    assert statuses <= {*_REFUSED, "413", "429", "503"}
    assert connections > 1000
    log = stand.log.read_text()
    assert [word for word in ("Traceback", "out of system resource") if word in log] == []
    assert len(log) < 4 * _MIB
