"""Do anything to a queue in any order: the database answers as the double in memory does."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from provisioner import errors, model, store, workqueue
from provisioner.seal import Seal
from provisioner.store import schema, times
from tests import builders as b
from tests import memory_store, opened_store

pytest_plugins = ["tests.database_server"]

_LOST = object()
KEYS = [model.Key.product(b.an_id(n)) for n in range(1, 3)]
keys = st.sampled_from(KEYS)
some_keys = st.lists(keys, min_size=1, max_size=2)
priorities = st.sampled_from(model.Priority)
some_ports = st.sets(st.sampled_from(["p1", "p2", "*"]), max_size=2)
ways = st.sampled_from(["queue", "queue", "delivery", "ask"])
rests = st.sampled_from([0.0, 0.1, 0.25])
seconds = st.sampled_from([0.0, 0.0, 0.0, 1.0, 10.0, 20.0, 30.0])


@dataclasses.dataclass(frozen=True)
class Held:
    """One lease as both sides gave it, and how often its key had been touched by then."""

    stored: model.Lease
    modelled: model.Lease
    touches: int


@dataclasses.dataclass(frozen=True)
class Sides:
    """A database, emptied for every run, and the clock that its leases go by."""

    store: store.Store
    queue: workqueue.SqlWorkqueue
    clock: memory_store.SettableClock

    def empty(self) -> None:
        with self.store.database.writing() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(sqlalchemy.delete(table))


class Queue(RuleBasedStateMachine):
    """Do the same to the database and to the double, and compare what they say."""

    leases: Bundle[Held] = Bundle("leases")

    def __init__(self, sides: Sides) -> None:
        super().__init__()
        sides.empty()
        self.stored, self.queue, self.clock = sides.store, sides.queue, sides.clock
        self.modelled = memory_store.MemoryStore(clock=self.clock)
        self.touches = dict.fromkeys(KEYS, 0)
        self.owed: set[model.Key] = set()

    @rule(touched=some_keys, priority=priorities, its_ports=some_ports, way=ways)
    def touch(
        self, touched: list[model.Key], priority: model.Priority, its_ports: set[str], way: str
    ) -> None:
        """Queue keys by themselves, by a delivery, or by what a person asks for."""
        if way == "delivery":
            keys_alone = model.Touched(keys=frozenset(touched))
            delivery = dataclasses.replace(opened_store.delivery(), touched=keys_alone)
            looks = self.stored.inbox.accept([delivery])
            anyway = not self.stored.database.single_process
            assert looks == (self.modelled.inbox.accept([delivery]) or anyway)
        elif way == "ask":
            for each in (self.stored.asks, self.modelled.asks):
                each.ask(touched, model.Ask.ROTATE)
        else:
            for queue in (self.queue, self.modelled.queue):
                queue.touch(touched, priority, ports=its_ports)
        self.owed |= set(touched)
        for key in touched:
            self.touches[key] += 1

    @rule(target=leases)
    def lease(self) -> MultipleResults[Held] | Held:
        stored, modelled = self.queue.lease("w"), self.modelled.queue.lease("w")
        if stored is None or modelled is None:
            assert stored is modelled
            return multiple()
        assert dataclasses.replace(stored, token="") == dataclasses.replace(modelled, token="")
        return Held(stored, modelled, self.touches[stored.key])

    @rule(target=leases, held=leases)
    def heartbeat(self, held: Held) -> MultipleResults[Held] | Held:
        stored, modelled = _both(
            lambda: self.queue.heartbeat(held.stored),
            lambda: self.modelled.queue.heartbeat(held.modelled),
        )
        if stored is _LOST:
            return multiple()
        assert stored.expires_at == modelled.expires_at
        return Held(stored, modelled, held.touches)

    @rule(held=consumes(leases), rest=rests)
    def done(self, held: Held, rest: float) -> None:
        outcome = model.Outcome(key=held.stored.key, status="done")
        stored, _ = _both(
            lambda: self.queue.done(held.stored, outcome, rest_seconds=rest),
            lambda: self.modelled.queue.done(held.modelled, outcome, rest_seconds=rest),
        )
        if stored is not _LOST and self.touches[held.stored.key] == held.touches:
            self.owed.remove(held.stored.key)

    @rule(held=consumes(leases), delay=seconds, rest=rests)
    def retry(self, held: Held, delay: float, rest: float) -> None:
        outcome = model.Outcome(key=held.stored.key, status="retry")
        _both(
            lambda: self.queue.retry(held.stored, outcome, delay, rest_seconds=rest),
            lambda: self.modelled.queue.retry(held.modelled, outcome, delay, rest_seconds=rest),
        )

    @rule(held=leases, after=seconds)
    def write(self, held: Held, after: float) -> None:
        """Write all that a lease fences."""
        record = model.Record(
            key=held.stored.key, namespace="n", next_at=self.clock() + timedelta(seconds=after)
        )
        answered = {model.Ask.ROTATE: self.clock()}
        _both(
            lambda: self.stored.records.confirm(held.stored),
            lambda: self.modelled.records.confirm(held.modelled),
        )
        _both(
            lambda: self.stored.asks.forget(answered, held.stored),
            lambda: self.modelled.asks.forget(answered, held.modelled),
        )
        _both(
            lambda: self.stored.records.save(record, held.stored),
            lambda: self.modelled.records.save(record, held.modelled),
        )

    @rule()
    def reap(self) -> None:
        assert self.queue.reap() == self.modelled.queue.reap()

    @rule(passed=st.one_of(seconds, rests))
    def wait(self, passed: float) -> None:
        self.clock.advance(passed)

    @rule()
    def look(self) -> None:
        now = self.clock()
        assert self.stored.records.due(now) == self.modelled.records.due(now)
        for key in KEYS:
            assert self.stored.asks.of(key) == self.modelled.asks.of(key)

    @invariant()
    def what_was_touched_stays_until_it_was_done_since(self) -> None:
        depth = self.queue.depth()
        assert depth == self.modelled.queue.depth()
        assert sum(depth) == len(self.owed)


def _both(*calls: Callable[[], Any]) -> tuple[Any, ...]:
    """Call both; either both have lost the lease or none."""
    answers = []
    for call in calls:
        try:
            answers.append(call())
        except errors.LeaseLost:
            answers.append(_LOST)
    assert len({answer is _LOST for answer in answers}) == 1
    return tuple(answers)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.engine)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    empty: Callable[[], str] = request.getfixturevalue("emptied")
    return empty()


@pytest.fixture
def sides(url: str) -> Iterator[Sides]:
    clock = memory_store.SettableClock()
    held = store.open_store(
        url, Seal([opened_store.KEY]), clock=clock, time=times.of_process(clock)
    )
    with contextlib.closing(held):
        assert held.database.acquire()
        yield Sides(held, workqueue.SqlWorkqueue(held.database, clock=clock), clock)


def test_the_database_does_what_the_double_does(sides: Sides) -> None:
    run_state_machine_as_test(
        lambda: Queue(sides),  # type: ignore[arg-type] # any factory will do
        settings=settings(
            max_examples=25 if sides.store.database.single_process else 15,
            stateful_step_count=100,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
