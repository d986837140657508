"""Measure what one product waits for: each function returns rows of the table."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import sender, world
from benchmarks.table import Row, median, p99
from provisioner import names
from provisioner.demo import consumer, stage
from provisioner.settings import rules
from provisioner.workspace import render


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    deliveries: int
    creates: int
    revocations: int
    events: int
    known: int
    """Products in all, for what may grow with them."""
    starts: int


FULL = Size(deliveries=1000, creates=20, revocations=5, events=40, known=10_000, starts=5)
QUICK = Size(deliveries=80, creates=2, revocations=1, events=3, known=60, starts=1)


def creates(here: world.World, size: Size, *, prefix: str = "created") -> list[Row]:
    """Measure from the portal's POST to the complete workspace, one product after another."""
    _create(here, f"{prefix}-warm-up")
    times = [_create(here, f"{prefix}-{number}") for number in range(size.creates)]
    row = Row(
        what="idle product create, p50",
        value=median(times) * 1000,
        unit="ms",
        bar=150,
        note=f"p99 {p99(times) * 1000:.0f} ms",
    )
    return [row, _rendering(size)]


def _create(here: world.World, namespace: str) -> float:
    started = time.perf_counter()
    here.create(namespace)
    here.wait_for(here.folder(namespace) / ".env")
    taken = time.perf_counter() - started
    here.wait_idle()
    return taken


def _rendering(size: Size) -> Row:
    context = {
        "project_name": "sales",
        "project_slug": names.identifier("sales"),
        "s3_endpoint": "http://127.0.0.1:9000",
        "s3_bucket": stage.BUCKET,
        "portal_url": "http://127.0.0.1:8080",
        "product_id": "3c289333-2d55-4aed-8bd5-85015a1567fe",
    }
    text = {"name": "Sales", "description": "", "domain": "", "owners": ""}
    template = render.Template(rules.shipped_template())
    template.render(context, text)
    times = []
    for _ in range(size.creates):
        started = time.perf_counter()
        template.render(context, text)
        times.append(time.perf_counter() - started)
    return Row(
        what="  rendering alone, p50",
        value=median(times) * 1000,
        unit="ms",
        note="in memory; part of every create",
    )


def acknowledgements(here: world.World, process: subprocess.Popen[bytes], size: Size) -> list[Row]:
    """Measure deliveries that touch one known product: one sender, then eight."""
    product = here.create("known")
    here.wait_for(here.folder("known") / ".env")
    here.wait_idle()
    request = here.delivery(product)
    alone = sender.send(here.port, request, senders=1, count=size.deliveries)
    here.wait_idle()
    with _computed(process.pid) as ours:
        many = sender.send(here.port, request, senders=8, count=size.deliveries * 2)
        here.wait_idle()
    with _empty() as empty:
        floor = sender.send(empty.port, request, senders=1, count=size.deliveries)
        with _computed(empty.process.pid) as theirs:
            ceiling = sender.send(empty.port, request, senders=8, count=size.deliveries * 2)
    ours_us, theirs_us = (sum(each) / len(many.latencies) * 1e6 for each in (ours, theirs))
    disk = _fsync(here.made.root)
    return [
        Row(
            what="acknowledgement, one sender, p50",
            value=median(alone.latencies) * 1000,
            unit="ms",
            bar=3,
            note=f"the empty app {median(floor.latencies) * 1000:.2f} ms, fsync {disk:.2f} ms",
        ),
        Row(
            what="acknowledgement, one sender, p99",
            value=p99(alone.latencies) * 1000,
            unit="ms",
            bar=25,
            note=f"the empty app {p99(floor.latencies) * 1000:.2f} ms",
        ),
        Row(
            what="acknowledgements/s, 8 senders, of the empty app's",
            value=many.rate / ceiling.rate * 100,
            unit="%",
            bar=60,
            at_least=True,
            note=f"{many.rate:,.0f}/s of {ceiling.rate:,.0f}/s; the sender was busy"
            f" {many.busy:.0%} and {ceiling.busy:.0%}",
        ),
        Row(
            what="  processor time of one, 8 senders",
            value=ours_us,
            unit="us",
            note=f"the empty app {theirs_us:.0f} us, {theirs_us / ours_us:.0%} of it; with the"
            " reconciles meanwhile",
        ),
    ]


@contextlib.contextmanager
def _computed(pid: int) -> Iterator[list[float]]:
    """Note the seconds that a process computes in a block, its system calls among them."""

    def so_far() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    began, taken = so_far(), list[float]()
    yield taken
    taken.append(so_far() - began)


@dataclass(frozen=True, kw_only=True)
class _Empty:
    """The empty application, being served."""

    process: subprocess.Popen[bytes]
    port: int


@contextlib.contextmanager
def _empty() -> Iterator[_Empty]:
    port = stage.free_port(0)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.empty", str(port)])
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.post(f"http://127.0.0.1:{port}/")
                break
            time.sleep(0.02)
        yield _Empty(process=process, port=port)
    finally:
        process.terminate()
        process.wait(10)


def _fsync(folder: Path) -> float:
    """Return what the disk takes for 4 KiB appended and made durable: ms, p50."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(200):
            file.write(b"\0" * 4096)
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times) * 1000


def revocation(here: world.World, size: Size) -> list[Row]:
    """Measure from the portal's revocation to the engine's refusal, with a port each time."""
    producer, reader = here.create("producer"), here.create("reader")
    for name in ("producer", "reader"):
        here.wait_for(here.folder(name) / ".env")
    times = [
        _revoke(here, producer, reader, f"port-{number}") for number in range(size.revocations)
    ]
    return [
        Row(
            what="revocation -> refused by the engine, p50",
            value=median(times),
            unit="s",
            bar=5,
            note=f"longest {max(times):.2f} s",
        )
    ]


def _revoke(here: world.World, producer: str, reader: str, port: str) -> float:
    """Open a port, see that it is open, close it, and wait until it is."""
    identity = here.create_port(producer, port)
    asked = {"output_ports": [identity], "justification": "benchmark"}
    here.post(f"data_products/{reader}/input_ports", asked)
    decide = f"data_products/{producer}/output_ports/{identity}/input_ports"
    decision = {"consuming_data_product_id": reader, "decision_note": "benchmark"}
    here.post(f"{decide}/approve", decision)
    here.wait_idle()
    path = f"producer/{port}/data"
    consumer.Workspace(here.folder("producer")).put(path, expected=200)
    client = consumer.Workspace(here.folder("reader")).client()
    if not _reads(client, path):
        raise RuntimeError("the approved port is closed")
    started = time.perf_counter()
    here.post(f"{decide}/revoke", decision)
    while _reads(client, path):
        time.sleep(0.001)
    taken = time.perf_counter() - started
    here.wait_idle()
    return taken


def _reads(client: Any, path: str) -> bool:
    from botocore import exceptions

    try:
        client.get_object(Bucket=stage.BUCKET, Key=path)["Body"].read()
    except exceptions.ClientError:
        return False
    return True
