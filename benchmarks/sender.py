"""Send one prepared request over and over, from a process of its own, over raw sockets.

`python -m benchmarks.sender HOST PORT SENDERS COUNT` reads the request's bytes from standard input
and prints JSON: how long each answer took, how long all took, and how busy this process was. A
busy sender measures itself; the table shows that share.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass

_GOOD = b"HTTP/1.1 200 "
_HEAD_END = b"\r\n\r\n"
_WARM_UP = 20


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What came of one run."""

    latencies: tuple[float, ...]
    """Seconds, one an answer."""
    seconds: float
    busy: float
    """The share of that time in which the sender computed."""

    @property
    def rate(self) -> float:
        """Return answers a second."""
        return len(self.latencies) / self.seconds


def send(port: int, request: bytes, *, senders: int, count: int) -> Sent:
    """Run the sender to its end."""
    command = [sys.executable, "-m", __name__, "127.0.0.1", str(port), str(senders), str(count)]
    done = subprocess.run(command, input=request, capture_output=True, check=True, timeout=120)
    said = json.loads(done.stdout)
    return Sent(latencies=tuple(said["latencies"]), seconds=said["seconds"], busy=said["busy"])


class _Sender(asyncio.Protocol):
    """Keep one connection, with one request under way."""

    def __init__(self, request: bytes, count: int) -> None:
        self._request = request
        self._left = count
        self._answer = b""
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(_HEAD_END)
        if not found or len(body) < _length(head):
            return
        self.latencies.append(time.perf_counter() - self._sent_at)
        self._answer = b""
        self._left -= 1
        if not head.startswith(_GOOD):
            self.done.set_exception(RuntimeError(head.decode("latin-1")))
        elif self._left:
            self._send()
        else:
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError("the server hung up"))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def _run(host: str, port: int, request: bytes, senders: int, count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: _Sender(request, count // senders), host, port)
        for _ in range(senders)
    ]
    await asyncio.gather(*(sender.done for _, sender in opened))
    for transport, _ in opened:
        transport.close()
    return [each for _, sender in opened for each in sender.latencies]


def main() -> None:
    """Warm up, send, and print what was measured."""
    host, port, senders, count = sys.argv[1], *map(int, sys.argv[2:5])
    request = sys.stdin.buffer.read()
    asyncio.run(_run(host, port, request, 1, _WARM_UP))
    started, computed = time.perf_counter(), time.process_time()
    latencies = asyncio.run(_run(host, port, request, senders, count))
    seconds = time.perf_counter() - started
    busy = (time.process_time() - computed) / seconds
    print(json.dumps({"latencies": latencies, "seconds": seconds, "busy": busy}))


if __name__ == "__main__":
    main()
