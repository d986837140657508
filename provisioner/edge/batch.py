"""Let concurrent deliveries share one commit: a burst costs few fsyncs.

While one transaction is under way the deliveries that arrive meanwhile wait together; they are
the next one. Nobody waits for company: a lone delivery is stored at once. One thread does nothing
else, so that acknowledging never waits for workers that block all the others; it takes the next
deliveries by itself, because asking the event loop for them would cost more than storing them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable

from provisioner import errors, model, ports, telemetry

_log = telemetry.Log(__name__)
_LARGEST = 256
"""Deliveries in one transaction: a burst must not make the first of it wait for the last."""
_Waiting = tuple[model.Delivery, "asyncio.Future[None]"]


class Batch:
    """Store deliveries in shared transactions; `run` has it done and needs a parent.

    `on_changed` is called, from a thread, where workers should look anew.
    """

    def __init__(
        self, inbox: ports.Inbox, metrics: telemetry.Metrics, on_changed: Callable[[], None]
    ) -> None:
        self._inbox = inbox
        self._metrics = metrics
        self._on_changed = on_changed
        self._arrived: list[_Waiting] = []  # in this turn of the loop; handed over at its end
        self._handed: queue.SimpleQueue[list[_Waiting]] = queue.SimpleQueue()
        self._taken: deque[_Waiting] = deque()  # the thread's own
        self._stopping = threading.Event()
        self.running = False

    async def put(self, delivery: model.Delivery) -> None:
        """Return once the delivery is durable; raise `StoreUnavailable` where it will not be."""
        if not self.running:
            raise errors.StoreUnavailable("deliveries are not being stored")
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        if not self._arrived:
            loop.call_soon(self._hand_over)
        self._arrived.append((delivery, stored))
        await stored

    async def run(self) -> None:
        """Store what comes, until cancelled; what then still waits is refused."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._stopping.clear()
        self.running = True
        threading.Thread(
            target=self._store_all, args=(loop, ended), name="inbox", daemon=True
        ).start()
        try:
            await asyncio.shield(ended)
        finally:
            self.running = False
            self._stopping.set()
            self._hand_over()
            # A thread cannot be stopped: what it commits is still acknowledged.
            await asyncio.shield(ended)
            self._refuse_all()

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        self._handed.put(arrived)

    def _refuse_all(self) -> None:
        """Refuse what nobody stores any more."""
        while not self._handed.empty():
            self._taken.extend(self._handed.get())
        _answer(self._taken, errors.StoreUnavailable("the service is stopping"))
        self._taken.clear()

    def _store_all(
        self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]
    ) -> None:  # in the thread
        try:
            while not self._stopping.is_set():
                batch = self._next()
                if batch:
                    deliveries = [delivery for delivery, _ in batch]
                    failure = self._accept(deliveries)
                    loop.call_soon_threadsafe(_answer, batch, failure)
                    if failure is None:
                        _say(deliveries)  # together, and while nobody waits for it
            loop.call_soon_threadsafe(_end, ended)
        except RuntimeError:
            _log.warning("the service ended before its last deliveries were stored")

    def _next(self) -> list[_Waiting]:
        """Wait until something was handed over, and take all of it that fits."""
        while not self._taken or not self._handed.empty():
            self._taken.extend(self._handed.get())
            if self._stopping.is_set():
                return []
        return [self._taken.popleft() for _ in range(min(_LARGEST, len(self._taken)))]

    def _accept(self, deliveries: list[model.Delivery]) -> errors.StoreUnavailable | None:
        """Store deliveries in one transaction; return what stood in the way."""
        try:
            changed = self._inbox.accept(deliveries)
        except errors.StoreUnavailable as exc:
            _log.warning("deliveries cannot be stored", deliveries=len(deliveries), reason=exc)
            return exc
        except Exception as exc:
            self._metrics.bugs.inc()
            _log.exception("storing deliveries failed in a way that nobody foresaw")
            unavailable = errors.StoreUnavailable("storing deliveries failed")
            unavailable.__cause__ = exc
            return unavailable
        if changed:
            self._on_changed()
        return None


def _say(deliveries: Iterable[model.Delivery]) -> None:
    _log.info_each(
        "delivery accepted",
        [
            {
                "delivery_id": delivery.id,
                "wire": delivery.wire,
                "subject": delivery.subject,
                "status": delivery.status_code,
                "keys": len(delivery.touched.keys),
            }
            for delivery in deliveries
        ],
    )


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _answer(batch: Iterable[_Waiting], failure: errors.StoreUnavailable | None) -> None:
    for _, stored in batch:
        if stored.done():  # the sender hung up
            continue
        if failure is None:
            stored.set_result(None)
        else:
            stored.set_exception(errors.StoreUnavailable(failure.message))
