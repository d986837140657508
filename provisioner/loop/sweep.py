"""Look for principals at the engine that bear our mark and that no product of ours has.

They are left over from a store that was lost, or another provisioner's: nobody revokes them. They
are reported and never touched, for we cannot know whose they are.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from provisioner import errors, model, ports, telemetry
from provisioner.domain import backoff

FOREIGN, SWEPT = "foreign_principals", "swept_at"
_SWEEP = "sweep"
_PAGE = 500
_NAMED = 10
_AFTER_START = timedelta(seconds=60)
_log = telemetry.Log(__name__)


class Pages(Protocol):
    """Read all records without holding them all."""

    def page(self, *, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]:
        """Return records by key, those behind `after`."""


class Sweep:
    """Compare what the engine lists with what the store knows, at most every so often."""

    def __init__(
        self,
        issuer: ports.Issuer,
        *,
        records: Pages,
        flags: ports.Flags,
        clock: ports.Clock,
        hours: float,
        metrics: telemetry.Metrics,
        turns: ports.Turns,
    ) -> None:
        self._turns = turns
        self._issuer = issuer
        self._records = records
        self._flags = flags
        self._clock = clock
        self._every = timedelta(hours=hours)
        self._metrics = metrics
        self._next_at: datetime | None = None
        self._failures = 0

    def tick(self) -> None:
        """Sweep if it is time; an engine that does not answer is asked again later."""
        now = self._clock()
        if self._next_at is None:
            self._next_at = self._first(now)
        if now < self._next_at:
            return
        if not self._turns.take(_SWEEP):
            # Whoever has it says in the store what was found.
            self._next_at = max(self._first(now), now + _AFTER_START)
            return
        try:
            self._sweep(now)
        finally:
            seconds = (self._next_at - self._clock()).total_seconds()
            self._turns.end(_SWEEP, again_seconds=max(seconds, 0.0))

    def _sweep(self, now: datetime) -> None:
        """Sweep, and say when to do it again."""
        try:
            self.run()
        except errors.StoreUnavailable:
            raise
        except errors.ReconcileError as error:
            delay = backoff.backoff_seconds(self._failures, base=60.0, cap=3600.0, jitter=_whole)
            self._failures += 1
            self._next_at = now + timedelta(seconds=delay)
            _log.warning("principals could not be listed", reason=str(error))
        else:
            self._failures = 0
            self._next_at = now + self._every

    def _first(self, now: datetime) -> datetime:
        """Return when the last sweep asks for another; not while a start has more to do."""
        last, said = self._flags.get(SWEPT), self._flags.get(FOREIGN)
        if said:
            self._metrics.foreign_principals.set(int(said.partition(":")[0]))
        due_at = datetime.fromisoformat(last) + self._every if last else now
        return max(due_at, now + _AFTER_START)

    def run(self) -> tuple[str, ...]:
        """Sweep now; return the names of principals that nobody here knows."""
        foreign = self._unknown()
        if foreign:
            # One that was listed may have been released before the store was read.
            foreign &= self._unknown()
        names = tuple(sorted(foreign))
        self._metrics.foreign_principals.set(len(names))
        said = _said(names)
        if said and self._flags.get(FOREIGN) != said:
            _log.warning("principals with our mark belong to no product here", names=said)
        if self._flags.get(FOREIGN) != said:
            self._flags.put(FOREIGN, said)
        self._flags.put(SWEPT, self._clock().isoformat())
        return names

    def _unknown(self) -> set[str]:
        """Return what the engine lists and the store, read after it, does not know."""
        listed = {principal.name for principal in self._issuer.principals()}
        after: model.Key | None = None
        while listed and (page := self._records.page(limit=_PAGE, after=after)):
            listed -= {record.credentials.principal for record in page}
            after = page[-1].key
        return listed


def _said(names: tuple[str, ...]) -> str | None:
    """Say how many there are, and name the first of them."""
    if not names:
        return None
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)}: {', '.join(names[:_NAMED])}{more}"


def _whole() -> float:
    """Return no jitter: one process at a time sweeps."""
    return 1.0
