"""Ask the same of every store and queue: in memory, in SQLite and in PostgreSQL.

Another database joins by a line in `_BUILDERS`.
"""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
from cryptography.fernet import Fernet

from provisioner import errors, model, ports, store, workqueue
from provisioner.loop import portwatch
from provisioner.seal import Seal
from provisioner.store import times
from provisioner.store.turns import SqlTurns
from tests import memory_store, published

pytest_plugins = ["tests.database_server"]

EVENT, RESYNC = model.Priority.EVENT, model.Priority.RESYNC
_SEAL = Seal([Fernet.generate_key().decode()])


class Records(ports.Records, Protocol):
    """What the store's records do besides their port."""

    def by_namespace(self, namespace: str) -> model.Record | None: ...
    def page(self, *, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]: ...
    def digests(self) -> object: ...


class Contracts(ports.Contracts, portwatch.SeenPorts, Protocol):
    """What the store keeps of ports, for those who tell of them and the one who looks."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One implementation of every port, and its clock."""

    queue: ports.Workqueue
    inbox: ports.Inbox
    records: Records
    links: ports.Links
    asks: ports.Asks
    contracts: Contracts
    flags: ports.Flags
    history: ports.History
    clock: memory_store.SettableClock
    turns: Callable[[], ports.Turns]
    """Turns as one more process takes them."""
    single_process: bool = True

    def leased(self, key: model.Key | None = None, owner: str = "w") -> model.Lease:
        """Lease what is first, or a key that is queued for it."""
        if key is not None:
            self.queue.touch([key], EVENT)
        lease = self.queue.lease(owner)
        assert lease is not None
        assert key is None or lease.key == key
        return lease


def _of(
    parts: store.Store | memory_store.MemoryStore, queue: ports.Workqueue, clock: object
) -> World:
    assert isinstance(clock, memory_store.SettableClock)
    return World(
        queue=queue,
        inbox=parts.inbox,
        records=parts.records,
        links=parts.links,
        asks=parts.asks,
        contracts=parts.contracts,
        flags=parts.flags,
        history=parts.history,
        clock=clock,
        turns=(
            parts.another_process_turns
            if isinstance(parts, memory_store.MemoryStore)
            else lambda: SqlTurns(parts.database)
        ),
        single_process=not isinstance(parts, store.Store) or parts.database.single_process,
    )


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one SQLite file, to be copied: that is most of what a test would cost."""
    path = tmp_path_factory.mktemp("migrated") / "state.db"
    store.open_store(f"sqlite:///{path}", _SEAL, clock=memory_store.SettableClock()).close()
    return path


@contextmanager
def _memory(_request: pytest.FixtureRequest) -> Iterator[World]:
    clock = memory_store.SettableClock()
    memory = memory_store.MemoryStore(clock=clock)
    yield _of(memory, memory.queue, clock)


@contextmanager
def _opened(url: str) -> Iterator[World]:
    """Open a database whose leases go by a clock that tests set."""
    clock = memory_store.SettableClock()
    opened = store.open_store(url, _SEAL, clock=clock, time=times.of_process(clock))
    assert opened.database.acquire()
    yield _of(opened, workqueue.SqlWorkqueue(opened.database, clock=clock), clock)
    opened.close()


@contextmanager
def _sqlite(request: pytest.FixtureRequest) -> Iterator[World]:
    file: Path = request.getfixturevalue("tmp_path") / "state.db"
    shutil.copy(request.getfixturevalue("migrated"), file)
    with _opened(f"sqlite:///{file}") as built:
        yield built


@contextmanager
def _postgresql(request: pytest.FixtureRequest) -> Iterator[World]:
    with _opened(request.getfixturevalue("emptied")()) as built:
        yield built


_BUILDERS = {"memory": _memory, "sqlite": _sqlite, "postgresql": _postgresql}


@pytest.fixture(params=sorted(_BUILDERS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with _BUILDERS[request.param](request) as built:
        yield built


def _key(number: int) -> model.Key:
    return model.Key.product(str(uuid.UUID(int=number)))


A, B, C = _key(1), _key(2), _key(3)
EXPLORATION = model.Key(model.Kind.EXPLORATION, str(uuid.UUID(int=9)))


def _outcome(key: model.Key, status: str = "done", **changes: object) -> model.Outcome:
    return dataclasses.replace(model.Outcome(key=key, status=status), **changes)  # type: ignore[arg-type]


def _delivery(**touched: object) -> model.Delivery:
    return model.Delivery(
        id=str(uuid.uuid4()),
        received_at=datetime(2026, 11, 21, 11, 59, 59, 123456, tzinfo=UTC),
        wire=model.Wire.V1,
        subject="POST /api/data_products/{id}",
        status_code=200,
        touched=model.Touched(**touched),  # type: ignore[arg-type]
    )


def _link(number: int, consumer: model.Key, port: str, **changes: object) -> model.Link:
    link = model.Link(
        id=f"link-{number}",
        consumer=consumer,
        producer_id=A.id,
        port_id=port,
        status=model.LinkStatus.PENDING,
    )
    return dataclasses.replace(link, **changes)  # type: ignore[arg-type]


def _record(key: model.Key = A, namespace: str = "sales", **changes: object) -> model.Record:
    record = model.Record(
        key=key,
        namespace=namespace,
        name="Sales \ud800 \x00 ☃",
        credentials=model.Credentials(
            principal="dp-sales-1",
            generation=3,
            current=model.AccessKey("AKIA1", "current secret"),
            issued_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            pending=model.Pending(
                intent_at=datetime(2026, 1, 3, tzinfo=UTC),
                key=model.AccessKey("AKIA2", "pending secret"),
            ),
            retiring=(
                model.Retiring(key_id="AKIA0", delete_after=datetime(2026, 2, 1, tzinfo=UTC)),
                model.Retiring(key_id="AKIA00"),
            ),
        ),
        workspace=model.WorkspaceState(rendered=True, input_names=(("p1", "a__b"), ("p2", "c"))),
        grants=(
            model.Grant(
                producer_id=B.id,
                producer_namespace="b",
                port_id="p1",
                port_namespace="orders",
                access=model.Access.WRITE,
                locations=(model.Location(bucket="lake", prefix="b/orders/"),),
                valid_until=date(2027, 1, 31),
            ),
        ),
        conditions=(
            model.Condition(type="NotOurs", message="…", since=datetime(2026, 1, 1, tzinfo=UTC)),
        ),
        settled_digest="d1",
        next_at=datetime(2026, 12, 1, 0, 0, 0, 1, tzinfo=UTC),
        verified_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


# --- the queue ------------------------------------------------------------------------------------


def test_an_empty_queue_hands_out_nothing(world: World) -> None:
    assert world.queue.lease("w") is None
    assert world.queue.depth() == (0, 0)


def test_waiting_keys_coalesce(world: World) -> None:
    world.queue.touch([A, A], EVENT)
    world.queue.touch([A], RESYNC)
    assert world.queue.depth() == (1, 0)
    assert world.leased().key == A
    assert world.queue.lease("w") is None


def test_a_running_key_is_not_handed_out_again(world: World) -> None:
    world.leased(A)
    world.queue.touch([A], EVENT)
    assert world.queue.lease("other") is None
    assert world.queue.depth() == (0, 1)


def test_a_lease_ends_after_its_time(world: World) -> None:
    assert world.leased(A).expires_at == world.clock() + timedelta(seconds=30)


def test_every_lease_has_its_own_token(world: World) -> None:
    first = world.leased(A)
    world.queue.done(first, _outcome(A))
    assert world.leased(A).token != first.token


def test_a_key_that_is_done_leaves_the_queue(world: World) -> None:
    world.queue.done(world.leased(A), _outcome(A))
    assert world.queue.depth() == (0, 0)


@pytest.mark.parametrize("priority", [EVENT, RESYNC])
def test_a_key_touched_while_it_ran_runs_once_more_at_once(
    world: World, priority: model.Priority
) -> None:
    lease = world.leased(A)
    world.queue.touch([A], priority)
    world.queue.touch([A], priority)
    world.queue.done(lease, _outcome(A))
    again = world.leased()
    assert (again.key, again.attempts) == (A, 0)
    world.queue.done(again, _outcome(A))
    assert world.queue.depth() == (0, 0)


def test_an_event_during_a_run_that_fails_runs_it_again_at_once(world: World) -> None:
    lease = world.leased(A)
    world.queue.touch([A], RESYNC)
    world.queue.touch([A], EVENT)
    world.queue.retry(lease, _outcome(A, "retry"), 60)
    assert world.leased().attempts == 0


def test_a_resync_during_a_run_that_fails_does_not_cut_the_wait_short(world: World) -> None:
    lease = world.leased(A)
    world.queue.touch([A], RESYNC)
    world.queue.retry(lease, _outcome(A, "retry"), 60)
    assert world.queue.lease("w") is None
    world.clock.advance(60)
    assert world.leased().attempts == 1


def test_a_failed_key_waits_for_its_delay_and_counts_its_failures(world: World) -> None:
    world.queue.retry(world.leased(A), _outcome(A, "retry"), 10)
    world.clock.advance(9.999)
    assert world.queue.lease("w") is None
    world.clock.advance(0.001)
    lease = world.leased()
    assert lease.attempts == 1
    world.queue.retry(lease, _outcome(A, "retry"), 10)
    world.clock.advance(10)
    assert world.leased().attempts == 2


def test_an_event_ends_the_wait_of_a_failed_key(world: World) -> None:
    world.queue.retry(world.leased(A), _outcome(A, "retry"), 300)
    world.queue.touch([A], EVENT)
    assert world.leased().attempts == 1


def test_a_resync_does_not_end_the_wait_of_a_failed_key(world: World) -> None:
    world.queue.retry(world.leased(A), _outcome(A, "retry"), 300)
    world.queue.touch([A], RESYNC)
    assert world.queue.lease("w") is None


def test_success_forgets_earlier_failures(world: World) -> None:
    world.queue.retry(world.leased(A), _outcome(A, "retry"), 0)
    world.queue.done(world.leased(), _outcome(A))
    assert world.leased(A).attempts == 0


def test_events_come_before_resync_and_the_oldest_first(world: World) -> None:
    world.queue.touch([A], RESYNC)
    world.clock.advance(1)
    world.queue.touch([C], EVENT)
    world.clock.advance(1)
    world.queue.touch([B], EVENT)
    assert [world.leased().key for _ in range(3)] == [C, B, A]


def test_a_resync_never_makes_an_event_less_urgent(world: World) -> None:
    world.queue.touch([B], EVENT)
    world.queue.touch([A, B], RESYNC)
    assert world.leased().key == B


def test_an_event_makes_a_waiting_resync_urgent(world: World) -> None:
    world.queue.touch([A, B], RESYNC)
    world.queue.touch([B], EVENT)
    assert world.leased().key == B


def test_a_constantly_touched_key_does_not_starve_others(world: World) -> None:
    lease = world.leased(A)
    world.clock.advance(1)
    world.queue.touch([B], EVENT)
    world.queue.touch([A], EVENT)
    world.clock.advance(1)
    world.queue.done(lease, _outcome(A))
    assert [world.leased().key, world.leased().key] == [B, A]


@pytest.mark.parametrize("end", ["done", "retry"])
def test_a_key_touched_while_it_ran_rests_and_nothing_cuts_that_short(
    world: World, end: str
) -> None:
    lease = world.leased(A)
    world.queue.touch([A], EVENT)
    if end == "done":
        world.queue.done(lease, _outcome(A), rest_seconds=0.2)
    else:
        world.queue.retry(lease, _outcome(A, "retry"), 60, rest_seconds=0.2)
    world.queue.touch([A], EVENT, ports=["p1"])
    world.inbox.accept([_delivery(keys=frozenset({A}))])
    world.clock.advance(0.199)
    assert world.queue.lease("w") is None
    world.clock.advance(0.001)
    again = world.leased()
    assert (again.key, again.attempts, again.ports) == (A, 0, frozenset({"p1"}))


def test_the_first_touch_after_a_run_is_not_delayed(world: World) -> None:
    world.queue.done(world.leased(A), _outcome(A), rest_seconds=0.2)
    assert world.leased(A).key == A


def test_a_clock_that_is_set_back_does_not_make_a_rest_longer(world: World) -> None:
    lease = world.leased(A)
    world.queue.touch([A], EVENT)
    world.queue.done(lease, _outcome(A), rest_seconds=0.2)
    world.clock.advance(-3600)
    assert world.leased(A).key == A


def test_others_have_their_turn_however_often_one_key_is_touched(world: World) -> None:
    others = [model.Key.product(str(uuid.UUID(int=n))) for n in range(100, 110)]
    world.queue.touch([A], EVENT)
    world.queue.touch(others, RESYNC)
    ran = []
    for _ in range(40):  # of one worker, each run of which takes 10 ms
        lease = world.queue.lease("w")
        for _ in range(25):
            world.queue.touch([A], EVENT)
        world.clock.advance(0.01)
        if lease is not None:
            ran.append(lease.key)
            world.queue.done(lease, _outcome(lease.key), rest_seconds=0.2)
    assert set(others) < set(ran)
    assert ran.count(A) == 2


def test_a_delivery_says_whether_workers_have_to_look(world: World) -> None:
    event = _delivery(keys=frozenset({A}))
    # A look of another process passes over what is being written: there every delivery wakes.
    nothing_new = not world.single_process
    assert world.inbox.accept([event])
    assert world.inbox.accept([event, event]) is nothing_new
    lease = world.leased()
    assert world.inbox.accept([event])
    assert world.inbox.accept([event]) is nothing_new
    world.queue.done(lease, _outcome(A), rest_seconds=0.2)
    assert world.inbox.accept([event]) is nothing_new
    assert world.inbox.accept([event, _delivery(keys=frozenset({B}))])
    assert not world.inbox.accept([_delivery()])


def test_a_key_run_again_for_a_resync_waits_behind_events(world: World) -> None:
    lease = world.leased(A)
    world.queue.touch([A], RESYNC)
    world.queue.done(lease, _outcome(A))
    world.clock.advance(1)
    world.queue.touch([B], EVENT)
    assert world.leased().key == B


def test_ports_are_merged_and_handed_out(world: World) -> None:
    world.queue.touch([A], EVENT, ports=["p1"])
    world.queue.touch([A], RESYNC, ports=["p2", "*"])
    assert world.leased().ports == {"p1", "p2", "*"}


def test_ports_stay_until_a_run_succeeds(world: World) -> None:
    world.queue.touch([A], EVENT, ports=["p1"])
    world.queue.retry(world.leased(), _outcome(A, "retry"), 0)
    lease = world.leased()
    assert lease.ports == {"p1"}
    world.queue.done(lease, _outcome(A))
    assert world.leased(A).ports == frozenset()


def test_ports_touched_during_a_run_survive_it(world: World) -> None:
    world.queue.touch([A], EVENT, ports=["p1", "p2"])
    lease = world.leased()
    world.queue.touch([A], EVENT, ports=["p2", "p3"])
    world.queue.done(lease, _outcome(A))
    assert world.leased().ports == {"p2", "p3"}


def test_ports_outlive_a_worker_that_died(world: World) -> None:
    world.queue.touch([A], EVENT, ports=["p1"])
    world.leased()
    world.queue.touch([A], EVENT, ports=["p2"])
    world.clock.advance(30)
    world.queue.reap()
    assert world.leased().ports == {"p1", "p2"}


def test_a_heartbeat_extends_a_lease(world: World) -> None:
    lease = world.leased(A)
    world.clock.advance(20)
    extended = world.queue.heartbeat(lease)
    assert extended == dataclasses.replace(lease, expires_at=world.clock() + timedelta(seconds=30))
    world.clock.advance(29)
    assert world.queue.reap() == 0
    world.queue.done(extended, _outcome(A))
    assert world.queue.depth() == (0, 0)


def test_only_leases_that_have_run_out_are_freed(world: World) -> None:
    world.leased(A)
    world.clock.advance(10)
    world.leased(B)
    world.clock.advance(20)
    assert world.queue.reap() == 1
    assert world.leased().key == A
    assert world.queue.lease("w") is None


def test_the_start_of_the_only_process_frees_every_lease(world: World) -> None:
    world.leased(A)
    world.leased(B)
    freed = 2 if world.single_process else 0
    assert world.queue.reap(all_owners=True) == freed
    assert world.queue.depth() == (freed, 2 - freed)


def test_a_freed_key_that_was_touched_runs_once(world: World) -> None:
    world.leased(A)
    world.queue.touch([A], EVENT)
    world.clock.advance(30)
    world.queue.reap()
    world.queue.done(world.leased(), _outcome(A))
    assert world.queue.depth() == (0, 0)


_WRITES: dict[str, Callable[[World, model.Lease], object]] = {
    "heartbeat": lambda w, lease: w.queue.heartbeat(lease),
    "done": lambda w, lease: w.queue.done(lease, _outcome(lease.key)),
    "retry": lambda w, lease: w.queue.retry(lease, _outcome(lease.key), 1),
    "save": lambda w, lease: w.records.save(_record(lease.key), lease),
    "links": lambda w, lease: w.links.replace(lease.key, [_link(1, lease.key, "p")], lease),
    "forget": lambda w, lease: w.asks.forget({model.Ask.ROTATE: w.clock()}, lease),
}


@pytest.mark.parametrize("write", _WRITES)
def test_a_lease_that_ran_out_writes_nothing(world: World, write: str) -> None:
    lease = world.leased(A)
    world.clock.advance(30)
    with pytest.raises(errors.LeaseLost):
        _WRITES[write](world, lease)
    assert world.records.load(A) is None
    assert world.links.consumers("p") == frozenset()
    assert world.history.outcomes(A, limit=9) == []


@pytest.mark.parametrize("write", _WRITES)
def test_a_lease_that_another_worker_has_writes_nothing(world: World, write: str) -> None:
    lost = world.leased(A)
    world.clock.advance(30)
    world.queue.reap()
    held = world.leased(owner="other")
    with pytest.raises(errors.LeaseLost):
        _WRITES[write](world, lost)
    assert world.queue.heartbeat(held).token == held.token


@pytest.mark.parametrize("write", _WRITES)
def test_a_lease_given_back_writes_nothing(world: World, write: str) -> None:
    lease = world.leased(A)
    world.queue.done(lease, _outcome(A))
    with pytest.raises(errors.LeaseLost):
        _WRITES[write](world, lease)


def test_a_lease_writes_only_its_own_record(world: World) -> None:
    world.records.save(_record(B, "b"), world.leased(B))
    lease = world.leased(A)
    with pytest.raises(errors.LeaseLost):
        world.records.save(_record(B, "stolen"), lease)
    assert world.records.load(B) == _record(B, "b")


# --- the inbox ------------------------------------------------------------------------------------


def test_what_a_delivery_touches_is_queued(world: World) -> None:
    world.inbox.accept([_delivery(keys=frozenset({A, EXPLORATION}))])
    assert {world.leased().key, world.leased().key} == {A, EXPLORATION}


def test_deliveries_of_one_batch_coalesce(world: World) -> None:
    port = frozenset({(A, "p1")})
    world.inbox.accept([_delivery(keys=frozenset({A})), _delivery(ports=port), _delivery()])
    assert world.queue.depth() == (1, 0)
    assert world.leased().ports == {"p1"}
    assert len(world.history.deliveries(limit=9)) == 3


def test_no_deliveries_are_no_work(world: World) -> None:
    world.inbox.accept([])
    assert world.history.deliveries(limit=9) == []


def test_an_event_of_a_port_touches_its_producer_and_every_consumer(world: World) -> None:
    lease = world.leased(B)
    world.links.replace(B, [_link(1, B, "p1"), _link(2, B, "p2")], lease)
    world.queue.done(lease, _outcome(B))
    lease = world.leased(EXPLORATION)
    denied = _link(3, EXPLORATION, "p1", status=model.LinkStatus.DENIED)
    world.links.replace(EXPLORATION, [denied], lease)
    world.queue.done(lease, _outcome(EXPLORATION))
    world.inbox.accept([_delivery(ports=frozenset({(A, "p1")}))])
    leases = [world.leased() for _ in range(3)]
    assert {lease.key: lease.ports for lease in leases} == {
        A: frozenset({"p1"}),
        B: frozenset(),
        EXPLORATION: frozenset(),
    }
    assert world.flags.get("resync_wanted") is None


def test_an_event_of_all_ports_touches_every_consumer_of_the_producer(world: World) -> None:
    lease = world.leased(B)
    world.links.replace(B, [_link(1, B, "p1")], lease)
    world.queue.done(lease, _outcome(B))
    world.inbox.accept([_delivery(ports=frozenset({(A, "*")}))])
    leases = [world.leased() for _ in range(2)]
    assert {lease.key: lease.ports for lease in leases} == {A: frozenset({"*"}), B: frozenset()}


def test_a_legacy_link_is_resolved_to_consumer_and_producer(world: World) -> None:
    lease = world.leased(B)
    world.links.replace(B, [_link(1, B, "p1")], lease)
    world.queue.done(lease, _outcome(B))
    world.inbox.accept([_delivery(links=frozenset({"link-1"}))])
    leases = [world.leased() for _ in range(2)]
    assert {lease.key: lease.ports for lease in leases} == {A: frozenset({"p1"}), B: frozenset()}
    assert world.flags.get("resync_wanted") is None


@pytest.mark.parametrize(
    "touched", [{"resync": True}, {"links": frozenset({"nobody knows"})}], ids=["asked", "unknown"]
)
def test_what_cannot_be_resolved_asks_for_a_resync(
    world: World, touched: dict[str, object]
) -> None:
    world.inbox.accept([_delivery(**touched)])
    assert world.flags.get("resync_wanted") == "yes"
    assert world.queue.depth() == (0, 0)


def test_a_delivery_ends_the_wait_of_a_failed_key(world: World) -> None:
    world.queue.retry(world.leased(A), _outcome(A, "retry"), 300)
    world.inbox.accept([_delivery(keys=frozenset({A}))])
    assert world.leased().key == A


# --- records --------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_saved(world: World) -> None:
    world.records.save(_record(), world.leased(A))
    assert world.records.load(A) == _record()
    assert world.records.by_namespace("sales") == _record()


def test_a_name_is_a_products_before_an_explorations(world: World) -> None:
    exploration = dataclasses.replace(_record(), key=EXPLORATION)
    world.records.save(exploration, world.leased(EXPLORATION))
    assert world.records.by_namespace("sales") == exploration
    gone = dataclasses.replace(_record(), released_at=world.clock())
    world.records.save(gone, world.leased(A))
    assert world.records.by_namespace("sales") == gone


def test_what_is_not_there_is_none(world: World) -> None:
    assert world.records.load(A) is None
    assert world.records.by_namespace("sales") is None


def test_a_record_is_overwritten_in_whole(world: World) -> None:
    lease = world.leased(A)
    world.records.save(_record(), lease)
    bare = model.Record(key=A, namespace="sales-eu", phase=model.Phase.ARCHIVED)
    world.records.save(bare, lease)
    assert world.records.load(A) == bare
    assert world.records.by_namespace("sales") is None


def test_lists_hold_no_secrets(world: World) -> None:
    world.records.save(_record(), world.leased(A))
    for listed in (world.records.known(), world.records.page(limit=5)):
        credentials = listed[0].credentials
        assert credentials.current == model.AccessKey("AKIA1", "")
        assert credentials.pending is not None
        assert credentials.pending.key == model.AccessKey("AKIA2", "")


def test_a_record_from_a_list_cannot_be_saved_over_its_secrets(world: World) -> None:
    lease = world.leased(A)
    world.records.save(_record(), lease)
    with pytest.raises(ValueError, match="without its secret"):
        world.records.save(world.records.known()[0], lease)
    assert world.records.load(A) == _record()


def test_records_are_listed_by_namespace_and_paged_by_key(world: World) -> None:
    for key, namespace in ((A, "c"), (B, "a"), (C, "b")):
        world.records.save(model.Record(key=key, namespace=namespace), world.leased(key))
    assert [record.namespace for record in world.records.known()] == ["a", "b", "c"]
    first = world.records.page(limit=2)
    assert [record.key for record in first] == [A, B]
    assert [record.key for record in world.records.page(limit=2, after=B)] == [C]
    assert world.records.page(limit=2, after=C) == ()


def test_a_namespace_belongs_to_the_living_before_the_released(world: World) -> None:
    released = model.Record(key=A, namespace="n", released_at=world.clock())
    world.records.save(released, world.leased(A))
    assert world.records.by_namespace("n") == released
    living = model.Record(key=B, namespace="n")
    world.records.save(living, world.leased(B))
    assert world.records.by_namespace("n") == living


def test_digests_show_what_was_settled_of_everything_not_released(world: World) -> None:
    world.records.save(_record(), world.leased(A))
    world.records.save(model.Record(key=B, namespace="b"), world.leased(B))
    gone = model.Record(key=C, namespace="c", released_at=world.clock())
    world.records.save(gone, world.leased(C))
    assert world.records.digests() == {A: "d1", B: ""}


def test_keys_are_due_when_their_time_has_come(world: World) -> None:
    now = world.clock()
    soon = {A: now, B: now - timedelta(seconds=1), C: now + timedelta(microseconds=1)}
    for key, moment in soon.items():
        lease = world.leased(key)
        world.records.save(model.Record(key=key, namespace="n", next_at=moment), lease)
        world.queue.done(lease, _outcome(key))
    assert world.records.due(now) == (B, A)


def test_a_key_in_the_queue_is_not_due(world: World) -> None:
    now = world.clock()
    lease = world.leased(A)
    world.records.save(model.Record(key=A, namespace="n", next_at=now), lease)
    assert world.records.due(now) == ()
    world.queue.done(lease, _outcome(A))
    assert world.records.due(now) == (A,)


# --- links, flags, history ------------------------------------------------------------------------


def test_links_of_a_consumer_are_replaced_in_whole(world: World) -> None:
    lease = world.leased(B)
    world.links.replace(B, [_link(1, B, "p1"), _link(2, B, "p2")], lease)
    changed = _link(2, B, "p3", valid_until=date(2027, 1, 1), mode="write")
    world.links.replace(B, [changed, _link(4, B, "p4")], lease)
    found = {port: world.links.consumers(port) for port in ("p1", "p2", "p3", "p4")}
    nobody, b = frozenset[model.Key](), frozenset({B})
    assert found == {"p1": nobody, "p2": nobody, "p3": b, "p4": b}


def test_links_of_other_consumers_stay(world: World) -> None:
    world.links.replace(B, [_link(1, B, "p1")], world.leased(B))
    world.links.replace(C, [_link(2, C, "p1")], world.leased(C))
    world.links.replace(C, [], world.leased(A))
    assert world.links.consumers("p1") == {B}


def test_what_is_asked_for_is_queued_at_once_and_kept_until_it_is_done(world: World) -> None:
    asked_at = world.clock()
    world.asks.ask([A, B], model.Ask.ROTATE)
    assert world.asks.of(A) == {model.Ask.ROTATE: asked_at}
    assert world.asks.waiting(model.Ask.ROTATE) == {A, B}
    assert world.asks.waiting(model.Ask.PURGE) == frozenset()
    lease = world.leased(A)
    world.asks.forget(world.asks.of(A), lease)
    assert world.asks.of(A) == {}
    assert world.asks.waiting(model.Ask.ROTATE) == {B}


def test_what_is_asked_again_meanwhile_outlives_what_was_done(world: World) -> None:
    world.asks.ask([A], model.Ask.ROTATE)
    world.asks.ask([A], model.Ask.VERIFY)
    done = world.asks.of(A)
    lease = world.leased(A)
    world.clock.advance(1)
    world.asks.ask([A], model.Ask.ROTATE)
    world.asks.forget(done, lease)
    assert world.asks.of(A) == {model.Ask.ROTATE: world.clock()}
    world.asks.forget({}, lease)
    assert world.asks.waiting(model.Ask.ROTATE) == {A}


def test_nobody_asked_is_nothing_noted(world: World) -> None:
    world.asks.ask([], model.Ask.ROTATE)
    assert world.asks.waiting(model.Ask.ROTATE) == frozenset()
    assert world.queue.lease("w") is None


def test_flags_are_kept_and_cleared(world: World) -> None:
    assert world.flags.get("mass_deletion") is None
    world.flags.put("mass_deletion", "7 of 9")
    world.flags.put("mass_deletion", "8 of 9")
    assert world.flags.get("mass_deletion") == "8 of 9"
    world.flags.put("mass_deletion", None)
    world.flags.put("mass_deletion", None)
    assert world.flags.get("mass_deletion") is None


def test_deliveries_are_shown_newest_first_and_paged(world: World) -> None:
    sent = [_delivery(keys=frozenset({_key(n), _key(9)})) for n in range(1, 4)]
    sent[2] = dataclasses.replace(sent[2], wire=model.Wire.V2, status_code=None)
    for delivery in sent:
        world.inbox.accept([delivery])
    newest = world.history.deliveries(limit=2)
    assert [row["id"] for row in newest] == [sent[2].id, sent[1].id]
    older = world.history.deliveries(limit=2, before=newest[-1]["row_id"])
    assert dict(older[0]) == {
        "row_id": older[0]["row_id"],
        "id": sent[0].id,
        "received_at": sent[0].received_at,
        "wire": "v1",
        "subject": "POST /api/data_products/{id}",
        "status_code": 200,
        "touched": (str(_key(1)), str(_key(9))),
        "resync": False,
    }
    assert newest[0]["status_code"] is None


def test_outcomes_of_a_key_are_shown_newest_first(world: World) -> None:
    world.queue.retry(world.leased(A), _outcome(A, "retry", message="bad \ud800\x00"), 0)
    world.clock.advance(1)
    next_at = world.clock() + timedelta(days=1)
    actions = ("create-key", "publish")
    world.queue.done(world.leased(), _outcome(A, actions=actions, next_at=next_at))
    world.queue.done(world.leased(B), _outcome(B))
    newest, oldest = world.history.outcomes(A, limit=9)
    assert dict(newest) == {
        "row_id": newest["row_id"],
        "at": world.clock(),
        "status": "done",
        "actions": actions,
        "message": "",
        "next_at": next_at,
    }
    assert (oldest["status"], oldest["message"]) == ("retry", "bad \ud800\x00")
    assert len(world.history.outcomes(A, limit=1)) == 1


def test_pruning_drops_what_is_older(world: World) -> None:
    world.inbox.accept([_delivery(keys=frozenset({A}))])
    world.queue.done(world.leased(), _outcome(A))
    world.clock.advance(3600)
    world.queue.done(world.leased(A), _outcome(A, "condition"))
    assert world.history.prune(world.clock()) == 2
    assert world.history.deliveries(limit=9) == []
    assert [row["status"] for row in world.history.outcomes(A, limit=9)] == ["condition"]
    assert world.history.prune(world.clock()) == 0


def _registered(
    world: World, *outputs: model.SeenPort, seen_before: datetime | None = None
) -> None:
    """Note the output ports of A, as a reconcile of it does."""
    lease = world.leased(A)
    world.contracts.register(
        A, outputs, lease, seen_before=seen_before or datetime(2000, 1, 1, tzinfo=UTC)
    )
    world.queue.done(lease, _outcome(A))


def _claimed(world: World, seconds: int = 300, limit: int = 9) -> list[str]:
    """Take what is due until so many seconds later; return the ids."""

    def turn(_port: str, consumed: bool, now: datetime) -> datetime:
        return now + timedelta(seconds=seconds if consumed else 12 * seconds)

    return [each.port_id for each in world.contracts.claim(limit=limit, turn=turn)]


_P1, _P2 = (
    published.a_port(port_id=f"p{number}", producer=A, port=port)
    for number, port in ((1, "zebra"), (2, "apple"))
)


def test_ports_are_kept_until_their_producer_has_them_no_more(world: World) -> None:
    _registered(world, _P1, _P2)
    assert world.contracts.of_producer(A) == (_P2, _P1)  # by namespace
    assert world.contracts.of(["p1", "p9"]) == {"p1": _P1}
    assert world.contracts.of([]) == {}
    _registered(world, _P2)
    assert world.contracts.of_producer(A) == (_P2,)
    assert world.contracts.of_producer(B) == ()


def test_ports_are_registered_only_with_a_lease(world: World) -> None:
    lease = world.leased(A)
    world.queue.done(lease, _outcome(A))
    with pytest.raises(errors.LeaseLost):
        world.contracts.register(A, [_P1], lease, seen_before=world.clock())
    assert world.contracts.of_producer(A) == ()


def test_what_was_seen_of_a_port_comes_back_and_queues_whom_it_concerns(world: World) -> None:
    _registered(world, _P1)
    seen = dataclasses.replace(
        _P1,
        state=model.PortState.SHRUNKEN,
        contract=published.a_contract(description="☃"),
        version="2.3",
        rows_before=300,
        etag='"e"',
        read_at=world.clock(),
        changed_at=world.clock(),
    )
    world.contracts.save([seen], [B, EXPLORATION])
    assert world.contracts.of(["p1"]) == {"p1": seen}
    assert world.contracts.counts() == {model.PortState.SHRUNKEN: 1}
    assert {world.leased().key, world.leased().key} == {B, EXPLORATION}
    _registered(world, _P1)  # where it lies has not changed: what was seen stays
    assert world.contracts.of(["p1"]) == {"p1": seen}


def test_what_was_seen_elsewhere_or_of_a_port_that_is_gone_is_not_kept(world: World) -> None:
    _registered(world, _P1)
    elsewhere = dataclasses.replace(_P1, producer_namespace="renamed")
    _registered(world, elsewhere)
    world.contracts.save([dataclasses.replace(_P1, etag='"old"')], [])
    assert world.contracts.of_producer(A) == (elsewhere,)
    _registered(world)
    world.contracts.save([elsewhere], [])
    assert world.contracts.of_producer(A) == ()


def test_a_port_has_its_turn_once_until_the_next(world: World) -> None:
    world.links.replace(B, [_link(1, B, "p1", status=model.LinkStatus.APPROVED)], world.leased(B))
    world.links.replace(C, [_link(2, C, "p2")], world.leased(C))
    _registered(world, _P1, _P2)
    assert (world.contracts.consumers("p1"), world.contracts.consumers("p2")) == (
        frozenset({B}),
        frozenset(),
    )
    assert len(_claimed(world, limit=1)) == 1
    assert len(_claimed(world)) == 1
    assert _claimed(world) == []
    world.clock.advance(301)
    assert _claimed(world) == ["p1"]
    world.clock.advance(12 * 300)
    assert sorted(_claimed(world)) == ["p1", "p2"]


def test_a_port_that_is_given_back_is_due_again_before_its_turn(world: World) -> None:
    _registered(world, _P1, _P2)
    assert sorted(_claimed(world)) == ["p1", "p2"]
    world.contracts.give_back({})
    world.contracts.give_back({"p1": 5.0, "p2": 100_000.0, "p9": 0.0})
    assert _claimed(world) == []
    world.clock.advance(5)
    assert _claimed(world) == ["p1"]
    world.clock.advance(12 * 300)
    assert _claimed(world) == ["p2", "p1"]


def test_a_port_that_was_not_seen_for_long_is_due_when_its_producer_is_looked_at(
    world: World,
) -> None:
    _registered(world, _P1)
    assert _claimed(world) == ["p1"]
    world.contracts.save([dataclasses.replace(_P1, read_at=world.clock())], [])
    _registered(world, _P1, seen_before=world.clock())
    assert _claimed(world) == []
    _registered(world, _P1, seen_before=world.clock() + timedelta(seconds=1))
    assert _claimed(world) == ["p1"]


def test_one_of_all_has_a_turn_when_it_is_due(world: World) -> None:
    first, second = world.turns(), world.turns()
    assert first.take("resync")
    assert not second.take("resync")
    assert not second.take("resync", urgent=True)
    assert second.take("sweep")
    first.end("resync", again_seconds=180)
    assert not first.take("resync")
    assert second.take("resync", urgent=True)
    second.end("resync", again_seconds=None)
    world.clock.advance(180)
    assert second.take("resync")


def test_a_turn_is_due_for_whoever_has_seen_nobody_take_it(world: World) -> None:
    first, second = world.turns(), world.turns()
    assert first.take("resync", since_seconds=0)
    assert not second.take("resync", since_seconds=0)
    first.end("resync", again_seconds=180)
    world.clock.advance(10)
    assert not second.take("resync", since_seconds=10)
    assert second.take("resync", since_seconds=9)
    second.end("resync", again_seconds=180)
    assert not first.take("resync", since_seconds=1)
    assert not first.take("resync")


def test_a_clock_that_was_set_back_keeps_no_turn_for_ever(world: World) -> None:
    dead, living = world.turns(), world.turns()
    assert dead.take("resync")
    assert dead.take("sweep")
    dead.end("sweep", again_seconds=180)
    world.clock.advance(-7200)
    assert living.take("resync")
    assert living.take("sweep")
    assert not dead.take("resync")


def test_a_turn_that_was_never_ended_is_due_whyever_it_was_taken(world: World) -> None:
    dead, living = world.turns(), world.turns()
    assert dead.take("resync")
    dead.end("resync", again_seconds=180)
    assert dead.take("resync", urgent=True)
    world.clock.advance(29)
    assert not living.take("resync")
    world.clock.advance(1)
    assert living.take("resync")


def test_who_does_not_keep_a_turn_is_replaced_and_cannot_end_it(world: World) -> None:
    dead, living, third = world.turns(), world.turns(), world.turns()
    third.keep()
    assert dead.take("resync")
    for _ in range(3):
        world.clock.advance(20)
        dead.keep()
    assert not living.take("resync")
    world.clock.advance(30)
    assert living.take("resync")
    dead.keep()
    dead.end("resync", again_seconds=999)
    assert not third.take("resync")
    living.end("resync", again_seconds=0)
    assert third.take("resync")
