"""Drive any receiver on this machine: signed deliveries of both wires, at 1, 8 and 64 senders.

Every delivery is about a product that nobody knows, one of a few hundred, so that a receiver which
does its work before it answers has some to do. What it does with it afterwards is not measured.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import itertools
import json
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks import table
from provisioner.demo.portal import webhooks
from provisioner.domain import standard_webhooks

_SENDERS = (1, 8, 64)
_WIRES = ("v1", "v2")
_PRODUCTS = 300
_SECONDS = 10.0
"""How long an answer may take."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a receiver listens, and what stands in every request's head."""

    address: str
    port: int
    path: str
    host: str
    authorization: str


@dataclass(kw_only=True)
class Line:
    """What came of one run."""

    wire: str
    senders: int
    latencies: list[float] = field(default_factory=list)
    """Seconds of each answer 2xx."""
    answers: Counter[str] = field(default_factory=Counter)
    """All answers by status, and failures by name."""
    seconds: float = 0.0


def count(*, quick: bool) -> int:
    """Return how many deliveries each run sends."""
    return 64 if quick else 2048


def measure(url: str, secret: str, deliveries: int) -> list[Line]:
    """Send both wires at each number of senders."""
    target = _target(url)
    lines = []
    for wire in _WIRES:
        asyncio.run(_run(Line(wire=wire, senders=1), target, secret, 16))  # to warm up
        for senders in _SENDERS:
            line = Line(wire=wire, senders=senders)
            asyncio.run(_run(line, target, secret, deliveries))
            lines.append(line)
    return lines


def show(lines: Sequence[Line]) -> str:
    """Write the table."""
    head = ["wire", "senders", "p50", "p90", "p99", "accepted/s", "answers"]
    return table.grid(head, [_cells(line) for line in lines]) + "\n"


def _cells(line: Line) -> list[str]:
    shares = [
        f"{table.share(line.latencies, percent) * 1000:.1f} ms" if line.latencies else ""
        for percent in (50, 90, 99)
    ]
    rate = f"{len(line.latencies) / line.seconds:,.0f}"
    answers = ", ".join(f"{number:,} x {what}" for what, number in sorted(line.answers.items()))
    return [line.wire, str(line.senders), *shares, rate, answers]


def plain(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return every run as JSON holds it."""
    return [vars(line) | {"answers": dict(line.answers)} for line in lines]


def _target(url: str) -> Target:
    """Take a URL apart; only this machine is ever driven."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise SystemExit("--receiver: expects http://127.0.0.1:PORT/PATH")
    address = str(socket.getaddrinfo(parts.hostname, parts.port or 80)[0][4][0])
    if not ipaddress.ip_address(address).is_loopback:
        raise SystemExit("--receiver: expects a loopback address; nothing else is driven")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Target(
        address=address,
        port=parts.port or 80,
        path=parts.path or "/",
        host=parts.netloc.rpartition("@")[2],
        authorization=authorization,
    )


def _requests(target: Target, wire: str, secret: str) -> Iterator[bytes]:
    """Prepare deliveries, and hand them out over and over."""
    prepared = [
        _request(target, _message(wire, str(uuid.uuid4())), secret) for _ in range(_PRODUCTS)
    ]
    return itertools.cycle(prepared)


def _message(wire: str, product: str) -> dict[str, Any]:
    if wire == "v1":
        url = f"/api/v2/data_products/{product}/about"
        return {"method": "PUT", "url": url, "query": "", "response": "", "status_code": 200}
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "data-product-portal",
        "type": "data_product.event",
        "time": datetime.now(UTC).isoformat(),
        "data": {"id": product},
    }


def _request(target: Target, message: dict[str, Any], secret: str) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    head = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in _proofs(message, body, secret).items()),
    ]
    if target.authorization:
        head.append(f"Authorization: {target.authorization}")
    return "\r\n".join([*head, "", ""]).encode() + body


def _proofs(message: dict[str, Any], body: bytes, secret: str) -> dict[str, str]:
    """Sign as the secret asks for; without one nothing is proven."""
    if not secret:
        return {}
    if not standard_webhooks.is_secret(secret):
        return {"Sign": webhooks.sign(secret, message)}
    identity, at = uuid.uuid4().hex.encode(), str(int(time.time())).encode()
    signed = standard_webhooks.sign(secret, identity, at, body)
    return {
        standard_webhooks.ID.decode(): identity.decode(),
        standard_webhooks.TIMESTAMP.decode(): at.decode(),
        standard_webhooks.SIGNATURE.decode(): signed.decode(),
    }


async def _run(line: Line, target: Target, secret: str, deliveries: int) -> None:
    requests = _requests(target, line.wire, secret)
    started = time.perf_counter()
    each = deliveries // line.senders
    await asyncio.gather(*(_send(line, target, requests, each) for _ in range(line.senders)))
    line.seconds = time.perf_counter() - started


async def _send(line: Line, target: Target, requests: Iterator[bytes], deliveries: int) -> None:
    """Send one after another, on one connection as long as the receiver keeps it."""
    connection = _Connection(target)
    for _ in range(deliveries):
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_SECONDS):
                status = await connection.ask(next(requests))
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as exc:
            connection.close()
            line.answers[type(exc).__name__] += 1
            continue
        line.answers[str(status)] += 1
        if 200 <= status < 300:
            line.latencies.append(time.perf_counter() - started)
    connection.close()


class _Connection:
    """Speak as much HTTP/1.1 as answers to a POST need."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """Return the status of the whole answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._target.address, self._target.port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(each.split(":", 1) for each in head[1:] if ":" in each)
        version, status, *_ = head[0].split(" ")
        await self._body(reader, fields, int(status))
        if version == "http/1.0" or "close" in fields.get("connection", ""):
            self.close()
        return int(status)

    async def _body(
        self, reader: asyncio.StreamReader, fields: dict[str, str], status: int
    ) -> None:
        if "chunked" in fields.get("transfer-encoding", ""):
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readuntil(b"\r\n")
        elif "content-length" in fields:
            await reader.readexactly(int(fields["content-length"]))
        elif status not in (204, 304):
            await reader.read()
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
