"""Do what time asks for: timers, leases that ran out, pruning, and the next resync.

Both ticks are called every second by the crew of `worker`; all dates come from stored state, so
a restart forgets nothing. Resync has a tick of its own: a slow portal holds up no timer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from provisioner import backoff, errors, model, ports, resync, telemetry

_PRUNE_EVERY = timedelta(minutes=1)


class Timers:
    """Free leases that ran out, queue what is due, count, and prune history."""

    def __init__(
        self,
        *,
        queue: ports.Workqueue,
        records: ports.Records,
        history: ports.History,
        clock: ports.Clock,
        history_days: int,
        metrics: telemetry.Metrics,
        queues_due: bool = True,
    ) -> None:
        # Where nothing may be done about it, what is due stays due; resync looks at it.
        self._queues_due = queues_due
        self._queue = queue
        self._records = records
        self._history = history
        self._clock = clock
        self._keep = timedelta(days=history_days)
        self._metrics = metrics
        self._prune_at: datetime | None = None

    @property
    def is_behind(self) -> bool:
        """Tell whether there was more to prune at the last tick."""
        return self._prune_at is None

    def tick(self) -> bool:
        """Do all that is due; tell whether there is anything to work on."""
        now = self._clock()
        freed = self._queue.reap()
        due = self._records.due(now) if self._queues_due else ()
        if due:
            self._queue.touch(due, model.Priority.RESYNC)
        waiting, running = self._queue.depth()
        self._metrics.queue.labels("waiting").set(waiting)
        self._metrics.queue.labels("running").set(running)
        if self._prune_at is None or now >= self._prune_at:
            pruned = self._history.prune(now - self._keep)
            # One lot a tick: leases that ran out are not kept waiting for a month of rows.
            self._prune_at = None if pruned else now + _PRUNE_EVERY
        return bool(freed or due)


class ResyncTimer:
    """Resync at the start, periodically, and whenever somebody asks for it."""

    def __init__(
        self,
        run: Callable[[], object],
        *,
        flags: ports.Flags,
        clock: ports.Clock,
        every_seconds: float,
    ) -> None:
        self._run = run
        self._flags = flags
        self._clock = clock
        self._every = timedelta(seconds=every_seconds)
        self._next_at: datetime | None = None
        self._failures = 0
        self.begun = False

    def tick(self) -> bool:
        """Resync if it is time; tell whether it was."""
        now = self._clock()
        wanted = self._flags.get(resync.WANTED) is not None
        if not wanted and self._next_at is not None and now < self._next_at:
            return False
        self.begun = True
        self._next_at = now + self._every
        if wanted:
            # Cleared before, not after: who asks meanwhile gets one more.
            self._flags.put(resync.WANTED, None)
        try:
            self._run()
        except errors.ReconcileError:
            delay = backoff.backoff_seconds(self._failures, jitter=random.random)
            self._failures += 1
            self._next_at = min(self._next_at, now + timedelta(seconds=delay))
        else:
            self._failures = 0
        return True
