"""Send webhooks as the real portal does: in the background, once, and without looking back.

Wire v1 goes out for every change at the same time; wire v2 by one worker, one event after the
other. Neither is retried. The v1 signature is over `json.dumps(message)` with Python's defaults,
which is never what travels: the body is compact and not escaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One webhook that was sent, and the answer's status; None where there was no answer."""

    wire: str
    subject: str
    status: int | None


class Webhooks:
    """Send in the event loop of the app that `start` is called in."""

    def __init__(self, *, v1_url: str | None, v1_secret: str | None, v2_url: str | None) -> None:
        self._v1_url = v1_url
        self._v1_secret = v1_secret
        self._v2_url = v2_url
        self._running: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self._queue: asyncio.Queue[tuple[str, dict[str, str]]] | None = None
        self._open = 0
        self._quiet = threading.Condition()
        self.attempts: list[Attempt] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while the block runs; what is not out at its end is lost, as in the real one."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as client:
            self._client, self._queue = client, asyncio.Queue()
            worker = asyncio.create_task(self._work(client, self._queue))
            try:
                yield
            finally:
                tasks = [worker, *self._running]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._client = self._queue = None

    def changed(self, message: Mapping[str, object]) -> None:
        """Tell wire v1 of a call, whatever came of it."""
        if self._v1_url is None or self._client is None:
            return
        self._count(1)
        task = asyncio.create_task(self._send_v1(self._client, self._v1_url, dict(message)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def happened(self, events: Iterable[tuple[str, dict[str, str]]]) -> None:
        """Queue events for wire v2."""
        if self._v2_url is None or self._queue is None:
            return
        for event in events:
            self._count(1)
            self._queue.put_nowait(event)

    def wait_quiet(self, timeout_seconds: float = 10.0) -> bool:
        """Wait, from another thread, until everything that was announced has been sent."""
        with self._quiet:
            return self._quiet.wait_for(lambda: self._open == 0, timeout_seconds)

    async def _work(
        self, client: httpx.AsyncClient, queue: asyncio.Queue[tuple[str, dict[str, str]]]
    ) -> None:
        while True:
            kind, data = await queue.get()
            event = {
                "specversion": "1.0",
                "id": str(uuid.uuid4()),
                "source": "data-product-portal",
                "type": kind,
                "time": datetime.now(UTC).isoformat(),
                "data": data,
            }
            await self._send(client.post(str(self._v2_url), json=event), "v2", kind)

    async def _send_v1(
        self, client: httpx.AsyncClient, url: str, message: Mapping[str, object]
    ) -> None:
        headers = {"Sign": sign(self._v1_secret, message)} if self._v1_secret else {}
        call = client.post(url, json=message, headers=headers)
        await self._send(call, "v1", f"{message['method']} {message['url']}")

    async def _send(
        self, call: Coroutine[None, None, httpx.Response], wire: str, subject: str
    ) -> None:
        status = None
        try:
            status = (await call).status_code
        except httpx.HTTPError:
            pass  # the real one logs and forgets
        finally:
            self.attempts.append(Attempt(wire=wire, subject=subject, status=status))
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._quiet:
            self._open += change
            self._quiet.notify_all()


def sign(secret: str, message: Mapping[str, object]) -> str:
    """Sign a v1 message: over its serialised form, not over the body that is sent."""
    return hmac.new(secret.encode(), json.dumps(message).encode(), hashlib.sha512).hexdigest()
