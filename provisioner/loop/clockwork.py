"""Do what time asks for: timers, leases that ran out, pruning, and the next resync.

Both ticks are called every second by the crew of `worker`; all dates come from stored state, so
a restart forgets nothing. Resync has a tick of its own: a slow portal holds up no timer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from provisioner import errors, model, ports, telemetry
from provisioner.domain import backoff
from provisioner.loop import resync

_RESYNC = "resync"
_LOOK_EVERY = timedelta(seconds=5)
"""How often it is asked whether another replica's turn is over."""
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


class Alone:
    """Have every turn: nobody else serves this store."""

    def take(self, name: str, *, urgent: bool = False, since_seconds: float | None = None) -> bool:
        """Take it."""
        return True

    def keep(self) -> None:
        """Do nothing."""

    def end(self, name: str, *, again_seconds: float | None) -> None:
        """Do nothing."""


class ResyncTimer:
    """Resync at the start, periodically, and whenever somebody asks for it.

    Of several replicas one does, when it is due for all of them together. A start makes it due,
    for nobody may have heard what came before, unless another has resynced since.
    """

    def __init__(
        self,
        run: Callable[[], object],
        *,
        flags: ports.Flags,
        clock: ports.Clock,
        every_seconds: float,
        turns: ports.Turns,
    ) -> None:
        self._turns = turns
        self._run = run
        self._flags = flags
        self._clock = clock
        self._every = timedelta(seconds=every_seconds)
        self._next_at: datetime | None = None
        self._failures = 0
        self._started_at = clock()
        self.begun = False

    def tick(self) -> bool:
        """Resync if it is time; tell whether it was."""
        now = self._clock()
        wanted = self._flags.get(resync.WANTED) is not None
        if not wanted and self._next_at is not None and now < self._next_at:
            return False
        self.begun = True  # here, or where somebody else has the turn
        here_for = (now - self._started_at).total_seconds()
        if not self._turns.take(_RESYNC, urgent=wanted, since_seconds=here_for):
            self._next_at = now + min(self._every, _LOOK_EVERY)
            return False
        again = None
        try:
            again = self._resync(now, wanted=wanted)
        finally:
            self._turns.end(_RESYNC, again_seconds=again)
        return again is not None

    def _resync(self, now: datetime, *, wanted: bool) -> float | None:
        """Run once; return in how many seconds to run again, None where it was not needed."""
        if wanted:
            if self._flags.get(resync.WANTED) is None:
                return None  # another replica has heard it meanwhile
            # Cleared before, not after: who asks meanwhile gets one more.
            self._flags.put(resync.WANTED, None)
        try:
            self._run()
        except errors.ReconcileError as error:
            now = self._clock()  # it may have taken long: a pause is counted from here
            delay = backoff.backoff_seconds(self._failures, jitter=random.random)
            self._failures += 1
            sooner = min(self._every, timedelta(seconds=delay))
            asked = error.delay_seconds if isinstance(error, errors.TemporaryError) else None
            # What the portal asks for is a least one, however often it is resynced otherwise.
            self._next_at = now + max(sooner, timedelta(seconds=asked or 0.0))
        else:
            self._failures = 0
            self._next_at = max(now + self._every, self._clock() + _LOOK_EVERY)
        return max(0.0, (self._next_at - self._clock()).total_seconds())
