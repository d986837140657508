"""Let concurrent deliveries share one commit: a burst costs few fsyncs.

While one transaction is under way the deliveries that arrive meanwhile wait together; they are
the next one. Nobody waits for company: a lone delivery is stored at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from provisioner import errors, model, ports, telemetry

_log = telemetry.Log(__name__)
_LARGEST = 256
"""Deliveries in one transaction: a burst must not make the first of it wait for the last."""


class Batch:
    """Store deliveries in shared transactions; `run` does the work and needs a parent."""

    def __init__(
        self, inbox: ports.Inbox, metrics: telemetry.Metrics, on_accepted: Callable[[], None]
    ) -> None:
        self._inbox = inbox
        self._metrics = metrics
        self._on_accepted = on_accepted
        self._waiting: list[tuple[model.Delivery, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()
        self.running = False

    async def put(self, delivery: model.Delivery) -> None:
        """Return once the delivery is durable; raise `StoreUnavailable` where it will not be."""
        if not self.running:
            raise errors.StoreUnavailable("deliveries are not being stored")
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, stored))
        self._arrived.set()
        await stored

    async def run(self) -> None:
        """Store what waits, until cancelled; what then still waits is refused."""
        self.running = True
        # A thread of its own: acknowledging must not wait for workers that block all the others.
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inbox")
        try:
            while True:
                await self._arrived.wait()
                await self._store_next(thread)
        finally:
            thread.shutdown(wait=False)
            self.running = False
            self._answer(self._waiting, errors.StoreUnavailable("the service is stopping"))
            self._waiting = []

    async def _store_next(self, thread: ThreadPoolExecutor) -> None:
        batch, self._waiting = self._waiting[:_LARGEST], self._waiting[_LARGEST:]
        if not self._waiting:
            self._arrived.clear()
        deliveries = [delivery for delivery, _ in batch]
        commit = asyncio.create_task(self._accept(deliveries, thread))
        try:
            failure = await asyncio.shield(commit)
        except asyncio.CancelledError:
            # A thread cannot be stopped: what it commits is still acknowledged.
            self._answer(batch, await commit)
            raise
        self._answer(batch, failure)
        if failure is None:
            self._on_accepted()

    async def _accept(
        self, deliveries: list[model.Delivery], thread: ThreadPoolExecutor
    ) -> errors.StoreUnavailable | None:
        """Store deliveries in one transaction; return what stood in the way."""
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(thread, self._inbox.accept, deliveries)
        except errors.StoreUnavailable as exc:
            _log.warning("deliveries cannot be stored", deliveries=len(deliveries), reason=exc)
            return exc
        except Exception as exc:
            self._metrics.bugs.inc()
            _log.exception("storing deliveries failed in a way that nobody foresaw")
            unavailable = errors.StoreUnavailable("storing deliveries failed")
            unavailable.__cause__ = exc
            return unavailable
        return None

    def _answer(
        self,
        batch: list[tuple[model.Delivery, asyncio.Future[None]]],
        failure: errors.StoreUnavailable | None,
    ) -> None:
        for _, stored in batch:
            if stored.done():  # the sender hung up
                continue
            if failure is None:
                stored.set_result(None)
            else:
                stored.set_exception(errors.StoreUnavailable(failure.message))
