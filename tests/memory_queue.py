"""Work like the queue, in memory: a double that passes the same contract."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from provisioner import errors, model, ports
from provisioner.domain import backoff

_LONGEST_REST = timedelta(seconds=backoff.LONGEST_REST_SECONDS)


class SettableClock:
    """Show the time it was set to."""

    def __init__(self, now: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(kw_only=True)
class _Row:
    """One key in the queue."""

    ready_at: datetime
    priority: model.Priority
    attempts: int = 0
    again: model.Priority | None = None
    ports: dict[str, bool] = field(default_factory=dict)
    """Port -> whether it was handed to the present lease."""
    token: str | None = None
    leased_until: datetime | None = None

    @property
    def urgency(self) -> bool:
        return self.priority is not model.Priority.EVENT

    def free(self) -> None:
        self.token = self.leased_until = self.again = None


@dataclass(kw_only=True)
class Turn:
    """What one of all does at a time."""

    due_at: datetime
    owner: object | None = None
    held_until: datetime = field(init=False)
    taken_at: datetime | None = None

    def __post_init__(self) -> None:
        self.held_until = self.due_at


class State:
    """All that the doubles share."""

    def __init__(self, clock: ports.Clock, lease_seconds: float) -> None:
        self.clock = clock
        self.lease_for = timedelta(seconds=lease_seconds)
        self.lock = threading.RLock()
        self.counter = itertools.count(1)
        self.queue: dict[model.Key, _Row] = {}
        self.records: dict[model.Key, model.Record] = {}
        self.asks: dict[tuple[model.Key, model.Ask], datetime] = {}
        self.links: dict[model.Key, tuple[model.Link, ...]] = {}
        self.flags: dict[str, str] = {}
        self.turns: dict[str, Turn] = {}
        self.deliveries: list[Mapping[str, Any]] = []
        self.outcomes: list[tuple[model.Key, Mapping[str, Any]]] = []

    @contextmanager
    def fenced(self, lease: model.Lease) -> Iterator[_Row]:
        """Hold the lock while a lease is good; raise `LeaseLost` where it is not."""
        with self.lock:
            row = self.queue.get(lease.key)
            good = row and row.token == lease.token and row.leased_until
            if row is None or not good or good <= self.clock():
                raise errors.LeaseLost("the lease is no longer ours", key=str(lease.key))
            yield row

    def touch(self, key: model.Key, priority: model.Priority, touched: Iterable[str]) -> bool:
        """Queue a key; tell whether that changed anything but its ports."""
        now = self.clock()
        event = priority is model.Priority.EVENT
        before = dataclasses.replace(self.queue[key]) if key in self.queue else None
        row = self.queue.setdefault(key, _Row(ready_at=now, priority=priority))
        row.ports.update(dict.fromkeys(touched, False))
        if row.token is not None and (row.again is None or event):
            row.again = priority
        if event:
            row.priority = priority
            if row.token is None and (row.attempts or row.ready_at - now > _LONGEST_REST):
                row.ready_at = min(row.ready_at, now)
        return row != before

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        return frozenset(
            consumer
            for consumer, links in self.links.items()
            if any(link.port_id == port_id for link in links)
        )

    def consumers_of(self, producer: model.Key) -> frozenset[model.Key]:
        return frozenset(
            consumer
            for consumer, links in self.links.items()
            if any(link.producer_id == producer.id for link in links)
        )


class MemoryWorkqueue:
    """Hand out keys."""

    def __init__(self, state: State) -> None:
        self._state = state

    def touch(
        self, keys: Iterable[model.Key], priority: model.Priority, *, ports: Iterable[str] = ()
    ) -> None:
        touched = tuple(ports)
        with self._state.lock:
            for key in keys:
                self._state.touch(key, priority, touched)

    def lease(self, owner: str) -> model.Lease | None:
        with self._state.lock:
            now = self._state.clock()
            queue = self._state.queue
            ready = [
                (row.urgency, row.ready_at, key)
                for key, row in queue.items()
                if row.token is None and row.ready_at <= now
            ]
            if not ready:
                return None
            key = min(ready)[2]
            row = queue[key]
            row.token = f"{owner}-{next(self._state.counter)}"
            row.leased_until = now + self._state.lease_for
            row.ports = dict.fromkeys(row.ports, True)
            return model.Lease(
                key=key,
                token=row.token,
                expires_at=row.leased_until,
                attempts=row.attempts,
                ports=frozenset(row.ports),
            )

    def heartbeat(self, lease: model.Lease) -> model.Lease:
        with self._state.fenced(lease) as row:
            until = row.leased_until = self._state.clock() + self._state.lease_for
        return dataclasses.replace(lease, expires_at=until)

    def done(
        self, lease: model.Lease, outcome: model.Outcome, *, rest_seconds: float = 0.0
    ) -> None:
        with self._state.fenced(lease) as row:
            if row.again is None:
                del self._state.queue[lease.key]
            else:
                row.priority, row.attempts = row.again, 0
                row.ready_at = self._state.clock() + timedelta(seconds=rest_seconds)
                row.ports = {port: handed for port, handed in row.ports.items() if not handed}
                row.free()
            self._note(outcome)

    def retry(
        self,
        lease: model.Lease,
        outcome: model.Outcome,
        delay_seconds: float,
        *,
        rest_seconds: float = 0.0,
    ) -> None:
        with self._state.fenced(lease) as row:
            event = row.again is model.Priority.EVENT
            row.attempts = 0 if event else row.attempts + 1
            delay = timedelta(seconds=rest_seconds if event else delay_seconds)
            row.ready_at = self._state.clock() + delay
            row.free()
            self._note(outcome)

    def reap(self, *, all_owners: bool = False) -> int:
        with self._state.lock:
            now = self._state.clock()
            ended = [
                row
                for row in self._state.queue.values()
                if row.leased_until and (all_owners or row.leased_until <= now)
            ]
            for row in ended:
                row.free()
            return len(ended)

    def depth(self) -> tuple[int, int]:
        with self._state.lock:
            running = sum(row.token is not None for row in self._state.queue.values())
            return len(self._state.queue) - running, running

    def _note(self, outcome: model.Outcome) -> None:
        shown = dataclasses.asdict(outcome)
        del shown["key"]
        shown |= {"row_id": next(self._state.counter), "at": self._state.clock()}
        self._state.outcomes.append((outcome.key, shown))
