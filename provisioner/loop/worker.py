"""Run the loop: lease a key, reconcile it in a thread, give it back; supervised, and drained.

Every task has a parent, `Crew`. A worker waits for the wake-up that an accepted delivery gives,
or for the next key to become ready. Beside every run a heartbeat extends its lease; when that is
lost the run is told to stop before its next effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from provisioner import errors, model, ports, telemetry
from provisioner.domain import backoff
from provisioner.loop import resync

_TICK_SECONDS = 1.0
_POLL_SECONDS = 1.0
_POLL_SECONDS_HEARING = 10.0
"""Where other processes wake us, looking is for what they may have failed to say."""
_PAUSE_SECONDS = 0.02
"""After a look that found nothing: in a burst many looks would wait for the store beside it."""
_log = telemetry.Log(__name__)


class Reconciles(Protocol):
    """Reconcile one leased key."""

    def reconcile(self, lease: model.Lease, guard: Callable[[], None] = ...) -> model.Outcome:
        """Do it; `guard` raises `LeaseLost` before an effect that is no longer ours."""


@dataclass(frozen=True, kw_only=True)
class Duty:
    """All that one worker needs."""

    queue: ports.Workqueue
    reconciler: Reconciles
    portal: ports.PortalReader
    metrics: telemetry.Metrics
    clock: ports.Clock
    heartbeat_seconds: float = 10.0
    wake: Callable[[], None] = lambda: None
    """Called from any thread when a run has queued other keys."""
    on_lost: Callable[[model.Key], None] = lambda key: None
    """Called from a thread when a run has lost its lease: its last call may have come too late."""


class Guard:
    """Let effects pass until the lease is lost or has run out, whoever notices first."""

    def __init__(self, lease: model.Lease, clock: ports.Clock) -> None:
        self._clock = clock
        self._until: datetime = lease.expires_at
        self._lost = threading.Event()

    def extend(self, lease: model.Lease) -> None:
        """Go by the lease as it is after a heartbeat."""
        self._until = lease.expires_at

    def lose(self) -> None:
        """Stop the run before its next effect."""
        self._lost.set()

    def __call__(self) -> None:
        """Raise `LeaseLost` once the lease is lost, or no heartbeat came in time."""
        if self._lost.is_set() or self._clock() >= self._until:
            raise errors.LeaseLost("the lease has run out")


def run_once(duty: Duty, lease: model.Lease, guard: Callable[[], None]) -> model.Outcome:
    """Reconcile a leased key and give it back, whatever happens; the only place that catches all.

    Only a lost lease is passed on: then nothing may be written any more.
    """
    began = duty.clock()
    with telemetry.bound(key=str(lease.key), reconcile_id=uuid.uuid4().hex[:12]):
        try:
            unlisted = _touch_consumers(duty, lease)
            outcome = duty.reconciler.reconcile(lease, guard)
            if unlisted is not None:
                raise unlisted
        except errors.LeaseLost:
            raise
        except errors.TemporaryError as error:
            return _again(duty, lease, str(error), error.delay_seconds, began)
        except errors.PermanentError as error:
            outcome = model.Outcome(key=lease.key, status="condition", message=str(error))
        except Exception as error:
            duty.metrics.bugs.inc()
            _log.exception("unexpected error in a reconcile")
            return _again(duty, lease, f"unexpected: {type(error).__name__}", None, began)
        duty.queue.done(lease, outcome, rest_seconds=_rest_seconds(duty, began))
        duty.metrics.reconciles.labels(outcome.status).inc()
        if outcome.message:
            _log.warning("reconcile ended", status=outcome.status, reason=outcome.message)
        return outcome


def _touch_consumers(duty: Duty, lease: model.Lease) -> errors.TemporaryError | None:
    """Queue the consumers of the touched ports; return why the portal cannot list them now.

    What has ended or leaked is taken away all the same: the reconcile waits for no listing.
    """
    if not lease.ports:
        return None
    try:
        touched = resync.expand(duty.portal, lease)
    except errors.TemporaryError as error:
        return error
    duty.queue.touch(touched, model.Priority.EVENT)
    duty.wake()
    return None


def _rest_seconds(duty: Duty, began: datetime) -> float:
    """Return how long a key rests whose run began then, if it was touched meanwhile."""
    return backoff.rest_seconds((duty.clock() - began).total_seconds())


def _again(
    duty: Duty, lease: model.Lease, message: str, delay_seconds: float | None, began: datetime
) -> model.Outcome:
    """Queue a retry by backoff, and not before the delay that the error asks for.

    What asks for a short one may fail for days.
    """
    delay = backoff.backoff_seconds(lease.attempts, jitter=random.random)
    delay = max(delay, delay_seconds or 0.0)
    next_at = duty.clock() + timedelta(seconds=delay)
    outcome = model.Outcome(key=lease.key, status="retry", message=message, next_at=next_at)
    duty.queue.retry(lease, outcome, delay, rest_seconds=_rest_seconds(duty, began))
    duty.metrics.reconciles.labels("retry").inc()
    _log.warning("reconcile will be retried", reason=message, delay_seconds=round(delay, 1))
    return outcome


async def run(duty: Duty, lease: model.Lease) -> model.Outcome | None:
    """Run one key in a thread, extending its lease beside it; None where that was lost."""
    guard = Guard(lease, duty.clock)
    beat = asyncio.create_task(_heartbeat(duty, lease, guard))
    try:
        return await asyncio.to_thread(run_once, duty, lease, guard)
    except asyncio.CancelledError:
        guard.lose()  # the thread goes on until its call ends: it must not begin another
        raise
    except errors.LeaseLost:
        _log.warning("lease lost; another worker has the key", key=str(lease.key))
        with contextlib.suppress(errors.StoreUnavailable):
            await asyncio.to_thread(duty.on_lost, lease.key)
    except errors.StoreUnavailable as error:
        _log.error("the store failed; the lease will run out", reason=str(error))
    finally:
        beat.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat
    return None


async def _heartbeat(duty: Duty, lease: model.Lease, guard: Guard) -> None:
    """Extend the lease until cancelled; tell the run when it is lost."""
    remaining = lease
    while True:
        await asyncio.sleep(duty.heartbeat_seconds)
        try:
            remaining = await asyncio.to_thread(duty.queue.heartbeat, remaining)
        except errors.LeaseLost:
            guard.lose()
            return
        except errors.StoreUnavailable:
            # Tried again; until then the lease runs on, and the guard stops the run at its end.
            _log.warning("heartbeat failed", key=str(lease.key))
        else:
            guard.extend(remaining)


class Crew:
    """Supervise the workers and the clockwork; one dead task makes the whole unhealthy."""

    def __init__(
        self,
        duty: Duty,
        *,
        workers: int,
        clockwork: Mapping[str, Callable[[], object]],
        shutdown_seconds: float,
        hears: Callable[[], bool] = lambda: False,
    ) -> None:
        self._duty = duty
        self._workers = workers
        self._clockwork = dict(clockwork)
        self._shutdown_seconds = shutdown_seconds
        self._hears = hears
        self._owner = uuid.uuid4().hex[:12]
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._looking = asyncio.Lock()
        self._cut_off = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start every task, in the running loop."""
        self._loop = asyncio.get_running_loop()
        for name, tick in self._clockwork.items():
            self._tasks[name] = asyncio.create_task(self._tick_forever(tick), name=name)
        for number in range(self._workers):
            name = f"worker-{number}"
            self._tasks[name] = asyncio.create_task(self._work(), name=name)

    def wake(self) -> None:
        """Tell the workers, from any thread, that something was queued."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._wake.set)

    def alive(self) -> Mapping[str, bool]:
        """Tell which tasks are running."""
        return {name: not task.done() for name, task in self._tasks.items()}

    async def stop(self) -> None:
        """Take no more work, let running keys finish within the grace period, then give up."""
        self._stopping.set()
        self._wake.set()
        running = set(self._tasks.values())
        if running:
            _, late = await asyncio.wait(running, timeout=self._shutdown_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _work(self) -> None:
        while not self._stopping.is_set():
            async with self._looking:  # one looks for all, so that a delivery costs one look
                lease = await self._next()
            if lease is not None:
                await self._do(lease)

    async def _do(self, lease: model.Lease) -> None:
        """Run one key; an error that nobody foresaw costs its lease, never the worker."""
        began = self._duty.clock()
        try:
            outcome = await run(self._duty, lease)
        except Exception:
            self._unforeseen("unexpected error in a worker; the lease will run out")
        else:
            self._expect(outcome, began)

    def _unforeseen(self, event: str) -> None:
        self._duty.metrics.bugs.inc()
        _log.exception(event)

    def _expect(self, outcome: model.Outcome | None, began: datetime) -> None:
        """Look again when a key that rests, or failed here, becomes ready."""
        delays = [_rest_seconds(self._duty, began)]
        if outcome is not None and outcome.status == "retry" and outcome.next_at is not None:
            delays.append((outcome.next_at - self._duty.clock()).total_seconds())
        for delay in delays:
            asyncio.get_running_loop().call_later(max(0.0, delay), self._wake.set)

    async def _next(self) -> model.Lease | None:
        """Wait for a key; None when it is time to stop."""
        while not self._stopping.is_set():
            self._wake.clear()  # before the look, not after: a wake-up in between is not lost
            try:
                lease = await asyncio.to_thread(self._duty.queue.lease, self._owner)
                self._store_failed(None)
            except errors.StoreUnavailable as error:
                self._store_failed(error)
                lease = None
            if lease is not None:
                return lease
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._rest()
        return None

    def _store_failed(self, error: errors.StoreUnavailable | None) -> None:
        """Say once that no work can be taken, and once that it can again."""
        if error is not None and not self._cut_off:
            _log.error("no work can be taken: the store failed", reason=str(error))
        elif error is None and self._cut_off:
            _log.info("work can be taken again")
        self._cut_off = error is not None

    async def _rest(self) -> None:
        """Wait for a wake-up, but not for ever: delays and other processes make keys ready too."""
        if self._stopping.is_set():
            return
        # Deliveries for what is queued already wake nobody: a look that failed is made good here.
        seconds = _POLL_SECONDS_HEARING if self._hears() and not self._cut_off else _POLL_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _tick_forever(self, tick: Callable[[], object]) -> None:
        """Call a clockwork every second; what it returns tells whether it queued anything.

        What nobody foresaw is tried again, ever more slowly: a clock that stands still is
        noticed by nobody until a grant has not ended.
        """
        said, unforeseen = "", 0
        while not self._stopping.is_set():
            seconds = _TICK_SECONDS
            try:
                if await asyncio.to_thread(tick):
                    self._wake.set()
                said, unforeseen = "", 0
            except errors.ReconcileError as error:
                if str(error) != said:  # every second would drown the log
                    _log.warning("the clockwork will try again", reason=str(error))
                said = str(error)
            except Exception:
                self._unforeseen("unexpected error in the clockwork; it will try again")
                seconds += backoff.backoff_seconds(unforeseen, jitter=random.random)
                unforeseen += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
