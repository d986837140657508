"""Send what nobody should: silence, slowness, size, junk and forgeries, from a process of its own.

`python -m benchmarks.hostile PORT CONNECTIONS SECONDS [ADDRESS]` prints JSON: for every kind how
many connections it opened, and which answers it got. Most connections are held open; a few of
every other kind send as fast as they are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
_LARGEST = 1024 * 1024
_BUSY_OF_A_KIND = 4
_STEP_SECONDS = 1.0
_Talk = Callable[["Enemy", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Enemy:
    """Many senders of one kind."""

    def __init__(self, port: int, address: str | None, until: float) -> None:
        self._port = port
        self._local = (address, 0) if address else None
        self.until = until
        self.seen: Counter[str] = Counter()

    async def attack(self, talk: _Talk) -> None:
        """Talk on one connection after another until time is up."""
        loop = asyncio.get_running_loop()
        while loop.time() < self.until:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with self._connection() as (reader, writer), asyncio.timeout_at(self.until):
                    self.seen["connections"] += 1
                    await talk(self, reader, writer)
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def _connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=self._local
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader) -> None:
        """Read one answer and count it."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen[head.split(b" ", 2)[1].decode()] += 1
        lengths = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
        await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


def forged(body: bytes) -> bytes:
    """Make a delivery with a wrong signature."""
    return _HEAD + b"Sign: %s\r\nContent-Length: %d\r\n\r\n" % (b"0" * 128, len(body)) + body


async def _silent(_: Enemy, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def _slow_head(_: Enemy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD)
    await _drip(writer, b"X-Slow: " + b"x" * 10_000)
    await reader.read(1)


async def _slow_body(_: Enemy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(forged(b" " * _LARGEST)[:100_000])
    await _drip(writer, b" " * 10_000)
    await reader.read(1)


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(_STEP_SECONDS)


async def _large(enemy: Enemy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(forged(b"[" + b"[]," * (_LARGEST // 3 - 2) + b"[]]"))
    await enemy.answer(reader)


async def _forged(enemy: Enemy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(forged(b'{"method": "PUT"}'))
        await enemy.answer(reader)


async def _pipelined(
    enemy: Enemy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(forged(b"{") * 100)
    for _ in range(100):
        await enemy.answer(reader)


async def _junk(enemy: Enemy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(random.randbytes(random.randrange(1, 4000)) + b"\r\n\r\n")
    await enemy.answer(reader)


async def _crumbs(enemy: Enemy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 200_000)
    await enemy.answer(reader)


async def _headers(
    enemy: Enemy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(_HEAD + b"a:b\r\n" * 3000 + b"\r\n")
    await enemy.answer(reader)


_HOLDING: tuple[_Talk, ...] = (_silent, _slow_head, _slow_body)
_BUSY: tuple[_Talk, ...] = (_large, _forged, _pipelined, _junk, _crumbs, _headers)


async def _run(
    port: int, connections: int, seconds: float, address: str | None
) -> dict[str, dict[str, int]]:
    until = asyncio.get_running_loop().time() + seconds
    held = (connections - len(_BUSY) * _BUSY_OF_A_KIND) // len(_HOLDING)
    enemies = {talk: Enemy(port, address, until) for talk in _BUSY + _HOLDING}
    await asyncio.gather(
        *(
            enemy.attack(talk)
            for talk, enemy in enemies.items()
            for _ in range(held if talk in _HOLDING else _BUSY_OF_A_KIND)
        )
    )
    return {talk.__name__.strip("_"): dict(enemy.seen) for talk, enemy in enemies.items()}


def start(
    port: int, *, connections: int, seconds: float, address: str = ""
) -> subprocess.Popen[bytes]:
    """Start an attack; its standard output is what came of it."""
    command = [sys.executable, "-m", __name__, str(port), str(connections), str(seconds), address]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def main() -> None:
    """Attack, and print what came of it."""
    port, connections, seconds, address = sys.argv[1:5]
    print(
        json.dumps(asyncio.run(_run(int(port), int(connections), float(seconds), address or None)))
    )


if __name__ == "__main__":
    main()
