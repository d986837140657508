"""Measure what may grow with the number of products: one event, a resync, memory."""

from __future__ import annotations

import http.client
import subprocess
import time
from pathlib import Path

import httpx

from benchmarks import world
from benchmarks.table import Row, median, p99

_LONGEST_SECONDS = 60
_SAME_PERCENT = 120
"""Two medians of the same thing differ by so much on a machine that does nothing else."""


def event(here: world.World, product: str, times: int) -> Row:
    """Measure from a delivery's sending to the outcome of its reconcile, one after another."""
    request = here.delivery(product)
    taken = [_event(here, request) for _ in range(times)]
    return Row(
        what="one event: delivery sent -> reconciled, p50",
        value=median(taken) * 1000,
        unit="ms",
        note=f"{len(here.players.state.products):,} products known; p99 {p99(taken) * 1000:.0f} ms",
    )


def compared(few: Row, many: Row) -> list[Row]:
    """Hold one event among many products against one among few."""
    ratio = Row(
        what="  of what it takes with few",
        value=many.value / few.value * 100,
        unit="%",
        bar=_SAME_PERCENT,
        note=f"{few.note} took {few.value:.1f} ms, {many.value:.1f} ms now",
    )
    return [many, ratio]


def _event(here: world.World, request: bytes) -> float:
    here.wait_idle()
    look = here.look()
    before = look.outcomes()
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    connection = http.client.HTTPConnection("127.0.0.1", here.port, timeout=10)
    started = time.perf_counter()
    connection.request("POST", "/", body, headers)
    connection.getresponse().read()
    until = time.monotonic() + _LONGEST_SECONDS
    while look.outcomes() == before:
        if time.monotonic() > until:
            raise TimeoutError("the delivery came to nothing")
        time.sleep(0.0005)
    taken = time.perf_counter() - started
    connection.close()
    return taken


def resync(here: world.World) -> list[Row]:
    """Measure a resync where everything is in order, and that it writes nothing."""
    here.wait_idle()
    before = here.written()
    seconds, methods = here.resync()
    after = here.written()
    products = len(here.players.state.products)
    changes = sum(method != "GET" for method in methods)
    files = sum(before[0].get(path) != at for path, at in after[0].items())
    tables = [table for table, held in after[1].items() if before[1][table] != held]
    floor = _reads_alone(here, products)
    return [
        Row(
            what="resync of products in order",
            value=products / seconds,
            unit="products/s",
            bar=200,
            at_least=True,
            note=f"{products:,} products in {seconds:.1f} s",
        ),
        Row(what="  portal requests a product", value=(len(methods) - 1) / products, unit=""),
        Row(
            what="  four requests a product alone, by a bare client",
            value=floor,
            unit="products/s",
            note="what portal and client cost by themselves",
        ),
        Row(
            what="  written by it",
            value=changes + files + len(tables),
            unit="changes",
            bar=0,
            note=f"files {files}, tables {len(tables)} {' '.join(tables)}, portal {changes}",
        ),
    ]


def _reads_alone(here: world.World, products: int) -> float:
    """Make the same reads without us."""
    chosen = list(here.players.state.products)[: min(products, 100)]
    with httpx.Client(base_url=f"{here.made.portal_url}/api/v2/data_products/") as client:
        started = time.perf_counter()
        for product in chosen:
            for rest in ("", "/technical_assets", "/output_ports", "/input_ports"):
                client.get(f"{product}{rest}")
        return len(chosen) / (time.perf_counter() - started)


def memory(here: world.World, process: subprocess.Popen[bytes]) -> list[Row]:
    """Measure the memory that the service holds, and the most that it ever held."""
    known = f"{len(here.players.state.products):,} products known"
    held, most = _memory(process.pid, "VmRSS"), _memory(process.pid, "VmHWM")
    return [
        Row(what="memory (RSS) after a resync", value=held, unit="MiB", bar=150, note=known),
        Row(what="  the most it held", value=most, unit="MiB", bar=150),
    ]


def _memory(pid: int, name: str) -> float:
    """Return a line of the process's status in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))
    return kib / 1024
