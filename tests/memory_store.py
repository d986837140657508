"""Work like the store and its queue, in memory: doubles that pass the same contract.

`MemoryStore` holds everything under one lock; its ports are small views of it, like the real ones.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from provisioner import errors, model, ports
from provisioner.domain import revival
from tests import memory_contracts, memory_queue

SettableClock = memory_queue.SettableClock


class MemoryInbox:
    """Take in deliveries."""

    def __init__(self, state: memory_queue.State) -> None:
        self._state = state

    def accept(self, deliveries: Sequence[model.Delivery]) -> bool:
        with self._state.lock:
            changed = [self._queue(delivery.touched) for delivery in deliveries]
            for delivery in deliveries:
                self._note(delivery)
        return any(changed)

    def _queue(self, touched: model.Touched) -> bool:
        state = self._state
        known = {link.id: link for links in state.links.values() for link in links}
        wanted = [(key, frozenset[str]()) for key in touched.keys]
        touched_ports = set(touched.ports)
        for link in (known[each] for each in touched.links if each in known):
            wanted.append((link.consumer, frozenset()))
            touched_ports.add((model.Key.product(link.producer_id), link.port_id))
        for producer, port in touched_ports:
            wanted.append((producer, frozenset({port})))
            consumers = state.consumers_of(producer) if port == "*" else state.consumers(port)
            wanted += [(consumer, frozenset()) for consumer in consumers]
        changed = [state.touch(key, model.Priority.EVENT, ports) for key, ports in wanted]
        if touched.resync or touched.links - known.keys():
            state.flags["resync_wanted"] = "yes"
        return any(changed)

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

    def __init__(self, state: memory_queue.State) -> None:
        self._state = state

    def load(self, key: model.Key) -> model.Record | None:
        return self._state.records.get(key)

    def by_namespace(self, namespace: str) -> model.Record | None:
        found = [each for each in self._all() if each.namespace == namespace]
        found.sort(key=lambda each: (not each.key.produces, each.released_at is not None))
        return next(iter(found), None)

    def known(self) -> tuple[model.Record, ...]:
        ordered = sorted(self._all(), key=lambda record: (record.namespace, str(record.key)))
        return tuple(map(_without_secrets, ordered))

    def page(self, *, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]:
        behind = (each for each in self._all() if after is None or str(each.key) > str(after))
        return tuple(map(_without_secrets, itertools.islice(behind, limit)))

    def digests(self) -> Mapping[model.Key, str]:
        return {each.key: each.settled_digest for each in self._all() if each.released_at is None}

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

    def confirm(self, lease: model.Lease) -> None:
        with self._state.fenced(lease):
            pass

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

    def __init__(self, state: memory_queue.State) -> None:
        self._state = state

    def replace(self, consumer: model.Key, links: Iterable[model.Link], lease: model.Lease) -> None:
        with self._state.fenced(lease):
            self._state.links[consumer] = tuple(links)

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        with self._state.lock:
            return self._state.consumers(port_id)


class MemoryAsks:
    """Remember what was asked for."""

    def __init__(self, state: memory_queue.State, queue: memory_queue.MemoryWorkqueue) -> None:
        self._state = state
        self._queue = queue

    def ask(self, keys: Iterable[model.Key], what: model.Ask) -> None:
        wanted = set(keys)
        with self._state.lock:
            self._state.asks |= {(key, what): self._state.clock() for key in wanted}
            self._queue.touch(wanted, model.Priority.EVENT)

    def of(self, key: model.Key) -> Mapping[model.Ask, datetime]:
        return {ask: at for (whose, ask), at in self._state.asks.items() if whose == key}

    def forget(self, done: Mapping[model.Ask, datetime], lease: model.Lease) -> None:
        if not done:
            return
        with self._state.fenced(lease):
            for ask, at in done.items():
                if self._state.asks.get((lease.key, ask), at) <= at:
                    self._state.asks.pop((lease.key, ask), None)

    def waiting(self, what: model.Ask) -> frozenset[model.Key]:
        return frozenset(key for key, ask in self._state.asks if ask is what)


class MemoryFlags:
    """Keep flags."""

    def __init__(self, state: memory_queue.State) -> None:
        self._state = state

    def get(self, name: str) -> str | None:
        return self._state.flags.get(name)

    def put(self, name: str, value: str | None) -> None:
        with self._state.lock:
            if value is None:
                self._state.flags.pop(name, None)
            else:
                self._state.flags[name] = value


class MemoryTurns:
    """Take turns, for one process of several."""

    def __init__(self, state: memory_queue.State) -> None:
        self._state = state
        self._held: set[str] = set()

    def take(self, name: str, *, urgent: bool = False, since_seconds: float | None = None) -> bool:
        now = self._state.clock()
        turn = self._state.turns.setdefault(name, memory_queue.Turn(due_at=now))
        stale = since_seconds is not None and (
            turn.taken_at is None or turn.taken_at < now - timedelta(seconds=since_seconds)
        )
        held_for = timedelta(seconds=30)
        died = turn.owner is not None and not now < turn.held_until <= now + held_for
        set_back = turn.taken_at is not None and turn.taken_at > now
        due = urgent or stale or set_back or turn.due_at <= now
        if not died and (turn.owner is not None or not due):
            return False
        turn.owner, turn.held_until, turn.taken_at = self, now + held_for, now
        self._held.add(name)
        return True

    def keep(self) -> None:
        for name in self._held:
            turn = self._state.turns[name]
            if turn.owner is self:
                turn.held_until = self._state.clock() + timedelta(seconds=30)

    def end(self, name: str, *, again_seconds: float | None) -> None:
        self._held.discard(name)
        turn = self._state.turns[name]
        if turn.owner is self:
            turn.owner = None
            if again_seconds is not None:
                turn.due_at = self._state.clock() + timedelta(seconds=again_seconds)


class MemoryHistory:
    """Show what arrived and what came of it."""

    def __init__(self, state: memory_queue.State) -> None:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backup:
    """What the store held at one moment, as far as a backup takes it."""

    records: Mapping[model.Key, model.Record]
    links: Mapping[model.Key, tuple[model.Link, ...]]
    asks: Mapping[tuple[model.Key, model.Ask], datetime]


class MemoryStore:
    """Hold the doubles of one store and its queue."""

    def __init__(self, *, clock: ports.Clock, lease_seconds: float = 30.0) -> None:
        self._state = state = memory_queue.State(clock, lease_seconds)
        self.queue = memory_queue.MemoryWorkqueue(state)
        self.inbox = MemoryInbox(state)
        self.records = MemoryRecords(state)
        self.links = MemoryLinks(state)
        self.asks = MemoryAsks(state, self.queue)
        self.contracts = memory_contracts.MemoryContracts(state)
        self.flags = MemoryFlags(state)
        self.history = MemoryHistory(state)
        self.turns = MemoryTurns(state)

    def another_process_turns(self) -> MemoryTurns:
        """Return the turns as another process of the same store takes them."""
        return MemoryTurns(self._state)

    def backup(self) -> Backup:
        """Copy what a backup takes."""
        state = self._state
        return Backup(
            records=dict(state.records),
            links=dict(state.links),
            asks=dict(state.asks),
        )

    def restore(self, taken: Backup) -> None:
        """Hold what a backup brings back, and nothing else."""
        state = self._state
        state.queue.clear()
        state.deliveries.clear()
        state.outcomes.clear()
        state.records = {key: revival.mark(record) for key, record in taken.records.items()}
        state.links = dict(taken.links)
        state.asks = {each: at for each, at in taken.asks.items() if each[1] in revival.ASKS}
        state.flags = {**revival.FLAGS, revival.RESTORED_AT: state.clock().isoformat()}
