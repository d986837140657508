"""Work like the store and its queue, in memory: doubles that pass the same contract.

`MemoryStore` holds everything under one lock; its ports are small views of it, like the real ones.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from provisioner import errors, model, ports


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


class _State:
    """All that the doubles share."""

    def __init__(self, clock: ports.Clock, lease_seconds: float) -> None:
        self.clock = clock
        self.lease_for = timedelta(seconds=lease_seconds)
        self.lock = threading.RLock()
        self.counter = itertools.count(1)
        self.queue: dict[model.Key, _Row] = {}
        self.records: dict[model.Key, model.Record] = {}
        self.links: dict[model.Key, tuple[model.Link, ...]] = {}
        self.flags: dict[str, str] = {}
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

    def touch(self, key: model.Key, priority: model.Priority, touched: Iterable[str]) -> None:
        now = self.clock()
        event = priority is model.Priority.EVENT
        row = self.queue.setdefault(key, _Row(ready_at=now, priority=priority))
        row.ports.update(dict.fromkeys(touched, False))
        if row.token is not None and (row.again is None or event):
            row.again = priority
        if event:
            row.priority = priority
            if row.token is None:
                row.ready_at = min(row.ready_at, now)

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        return frozenset(
            consumer
            for consumer, links in self.links.items()
            if any(link.port_id == port_id for link in links)
        )


class MemoryWorkqueue:
    """Hand out keys."""

    def __init__(self, state: _State) -> None:
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

    def done(self, lease: model.Lease, outcome: model.Outcome) -> None:
        with self._state.fenced(lease) as row:
            if row.again is None:
                del self._state.queue[lease.key]
            else:
                row.priority, row.attempts = row.again, 0
                row.ready_at = self._state.clock()
                row.ports = {port: handed for port, handed in row.ports.items() if not handed}
                row.free()
            self._note(outcome)

    def retry(self, lease: model.Lease, outcome: model.Outcome, delay_seconds: float) -> None:
        with self._state.fenced(lease) as row:
            event = row.again is model.Priority.EVENT
            row.attempts = 0 if event else row.attempts + 1
            delay = timedelta(seconds=0 if event else delay_seconds)
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

    def next_ready_at(self) -> datetime | None:
        with self._state.lock:
            waiting = (row.ready_at for row in self._state.queue.values() if row.token is None)
            return min(waiting, default=None)

    def _note(self, outcome: model.Outcome) -> None:
        shown = dataclasses.asdict(outcome)
        del shown["key"]
        shown |= {"row_id": next(self._state.counter), "at": self._state.clock()}
        self._state.outcomes.append((outcome.key, shown))


class MemoryInbox:
    """Take in deliveries."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def accept(self, deliveries: Sequence[model.Delivery]) -> None:
        with self._state.lock:
            for delivery in deliveries:
                self._queue(delivery.touched)
                self._note(delivery)

    def _queue(self, touched: model.Touched) -> None:
        state = self._state
        known = {link.id: link for links in state.links.values() for link in links}
        wanted = [(key, frozenset[str]()) for key in touched.keys]
        touched_ports = set(touched.ports)
        for link in (known[each] for each in touched.links if each in known):
            wanted.append((link.consumer, frozenset()))
            touched_ports.add((model.Key.product(link.producer_id), link.port_id))
        for producer, port in touched_ports:
            wanted.append((producer, frozenset({port})))
            wanted += [(consumer, frozenset()) for consumer in state.consumers(port)]
        for key, its_ports in wanted:
            state.touch(key, model.Priority.EVENT, its_ports)
        if touched.resync or touched.links - known.keys():
            state.flags["resync_wanted"] = "yes"

    def _note(self, delivery: model.Delivery) -> None:
        touched = delivery.touched
        named = touched.keys | {producer for producer, _ in touched.ports}
        self._state.deliveries.append(
            {
                "row_id": next(self._state.counter),
                "id": delivery.id,
                "received_at": delivery.received_at,
                "wire": delivery.wire,
                "subject": delivery.subject,
                "status_code": delivery.status_code,
                "touched": tuple(sorted(map(str, named))),
                "resync": touched.resync,
            }
        )


class MemoryRecords:
    """Keep records."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def load(self, key: model.Key) -> model.Record | None:
        return self._state.records.get(key)

    def by_namespace(self, namespace: str) -> model.Record | None:
        found = [each for each in self._all() if each.namespace == namespace]
        living = [each for each in found if each.released_at is None]
        return next(iter(living or found), None)

    def known(self) -> tuple[model.Record, ...]:
        ordered = sorted(self._all(), key=lambda record: (record.namespace, str(record.key)))
        return tuple(map(_without_secrets, ordered))

    def page(self, *, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]:
        behind = (each for each in self._all() if after is None or str(each.key) > str(after))
        return tuple(map(_without_secrets, itertools.islice(behind, limit)))

    def digests(self) -> Mapping[model.Key, tuple[str, datetime | None]]:
        return {
            each.key: (each.settled_digest, each.next_at)
            for each in self._all()
            if each.released_at is None
        }

    def due(self, now: datetime) -> tuple[model.Key, ...]:
        due = [
            (each.next_at, each.key)
            for each in self._all()
            if each.next_at and each.next_at <= now and each.key not in self._state.queue
        ]
        return tuple(key for _, key in sorted(due))

    def save(self, record: model.Record, lease: model.Lease) -> None:
        self._check(record.key, lease)
        keys = (record.credentials.current, getattr(record.credentials.pending, "key", None))
        if any(key is not None and not key.secret for key in keys):
            raise ValueError("a key without its secret cannot be stored")
        with self._state.fenced(lease):
            self._state.records[record.key] = record

    def forget(self, key: model.Key, lease: model.Lease) -> None:
        self._check(key, lease)
        with self._state.fenced(lease):
            self._state.records.pop(key, None)

    def _all(self) -> list[model.Record]:
        with self._state.lock:
            return sorted(self._state.records.values(), key=lambda record: str(record.key))

    def _check(self, key: model.Key, lease: model.Lease) -> None:
        if key != lease.key:
            raise errors.LeaseLost("the lease is for another key", key=str(lease.key))


def _without_secrets(record: model.Record) -> model.Record:
    held = record.credentials
    current, pending = held.current, held.pending
    if current is not None:
        current = dataclasses.replace(current, secret="")
    if pending is not None and pending.key is not None:
        pending = dataclasses.replace(pending, key=dataclasses.replace(pending.key, secret=""))
    held = dataclasses.replace(held, current=current, pending=pending)
    return dataclasses.replace(record, credentials=held)


class MemoryLinks:
    """Remember links."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def replace(self, consumer: model.Key, links: Iterable[model.Link], lease: model.Lease) -> None:
        with self._state.fenced(lease):
            self._state.links[consumer] = tuple(links)

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        with self._state.lock:
            return self._state.consumers(port_id)


class MemoryFlags:
    """Keep flags."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def get(self, name: str) -> str | None:
        return self._state.flags.get(name)

    def put(self, name: str, value: str | None) -> None:
        with self._state.lock:
            if value is None:
                self._state.flags.pop(name, None)
            else:
                self._state.flags[name] = value


class MemoryHistory:
    """Show what arrived and what came of it."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def deliveries(self, *, limit: int, before: int | None = None) -> Sequence[Mapping[str, Any]]:
        newest = reversed(self._state.deliveries)
        wanted = (row for row in newest if before is None or row["row_id"] < before)
        return list(itertools.islice(wanted, limit))

    def outcomes(self, key: model.Key, *, limit: int) -> Sequence[Mapping[str, Any]]:
        newest = (row for whose, row in reversed(self._state.outcomes) if whose == key)
        return list(itertools.islice(newest, limit))

    def prune(self, before: datetime) -> int:
        with self._state.lock:
            state = self._state
            total = len(state.deliveries) + len(state.outcomes)
            state.deliveries = [row for row in state.deliveries if row["received_at"] >= before]
            state.outcomes = [(key, row) for key, row in state.outcomes if row["at"] >= before]
            return total - len(state.deliveries) - len(state.outcomes)


class MemoryStore:
    """Hold the doubles of one store and its queue."""

    def __init__(self, *, clock: ports.Clock, lease_seconds: float = 30.0) -> None:
        state = _State(clock, lease_seconds)
        self.queue = MemoryWorkqueue(state)
        self.inbox = MemoryInbox(state)
        self.records = MemoryRecords(state)
        self.links = MemoryLinks(state)
        self.flags = MemoryFlags(state)
        self.history = MemoryHistory(state)
