"""Run several replicas on a real PostgreSQL server: clocks, wake-ups, locks, starts that race."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy

from provisioner import errors, migrations, model, ports, store, workqueue
from provisioner.seal import Seal
from provisioner.store import places, queueing, schema, wakeups
from tests import opened_store

if TYPE_CHECKING:
    from tests.database_server import Server

pytest_plugins = ["tests.database_server"]
pytestmark = pytest.mark.engine

EVENT = model.Priority.EVENT
KEYS = [model.Key.product(str(uuid.UUID(int=n))) for n in range(1, 30)]
A, B = KEYS[:2]


@pytest.fixture
def url(emptied: Callable[[], str]) -> str:
    return emptied()


def ahead(seconds: float) -> ports.Clock:
    """Return a clock that is wrong."""
    return lambda: datetime.now(UTC) + timedelta(seconds=seconds)


@contextlib.contextmanager
def replica(
    url: str, clock: ports.Clock = opened_store.now, *, lease_seconds: float = 30
) -> Iterator[tuple[store.Store, workqueue.SqlWorkqueue]]:
    opened = store.open_store(url, Seal([opened_store.KEY]), clock=clock)
    with contextlib.closing(opened):
        yield (
            opened,
            workqueue.SqlWorkqueue(opened.database, clock=clock, lease_seconds=lease_seconds),
        )


def leased(queue: workqueue.SqlWorkqueue) -> model.Lease:
    lease = queue.lease("w")
    assert lease is not None
    return lease


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_replica_whose_clock_is_wrong_frees_no_lease_and_keeps_its_own(
    url: str, seconds: float
) -> None:
    with replica(url) as (_, right), replica(url, ahead(seconds)) as (_, wrong):
        right.touch([A], EVENT)
        held = leased(right)
        assert wrong.reap() == 0
        wrong.touch([B], EVENT)
        other = leased(wrong)
        assert right.reap() == 0
        assert right.heartbeat(held).token == held.token
        assert wrong.heartbeat(other).token == other.token


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_what_a_replica_with_a_wrong_clock_queues_is_ready_at_once(
    url: str, seconds: float
) -> None:
    with replica(url) as (_, right), replica(url, ahead(seconds)) as (opened, _):
        opened.inbox.accept([opened_store.delivery(A)])
        opened.asks.ask([B], model.Ask.ROTATE)
        assert {leased(right).key, leased(right).key} == {A, B}


def test_a_worker_is_told_the_end_of_its_lease_by_its_own_clock(url: str) -> None:
    clock = ahead(3600)
    with replica(url, clock) as (_, queue):
        queue.touch([A], EVENT)
        before = clock()
        ends = leased(queue).expires_at
        assert before <= ends - timedelta(seconds=30) <= clock()


def test_a_lease_ends_by_the_clock_of_the_server(url: str) -> None:
    with replica(url, lease_seconds=0) as (_, queue):
        queue.touch([A], EVENT)
        lease = leased(queue)
        with pytest.raises(errors.LeaseLost):
            queue.heartbeat(lease)
        assert queue.reap() == 1


# --- wake-ups -------------------------------------------------------------------------------------


class Heard:
    """Count wake-ups."""

    def __init__(self) -> None:
        self._calls = threading.Semaphore(0)

    def __call__(self) -> None:
        self._calls.release()

    def within(self, seconds: float = 10.0) -> bool:
        return self._calls.acquire(timeout=seconds)


@contextlib.contextmanager
def listening(opened: store.Store) -> Iterator[Heard]:
    heard = Heard()
    opened.database.wake_ups.start(heard)
    assert heard.within()  # for what was queued before
    yield heard


_TOUCHES: dict[str, Callable[[store.Store, workqueue.SqlWorkqueue], object]] = {
    "delivery": lambda opened, _: opened.inbox.accept([opened_store.delivery(A)]),
    "ask": lambda opened, _: opened.asks.ask([A], model.Ask.ROTATE),
    "queue": lambda _, queue: queue.touch([A], model.Priority.RESYNC),
}


@pytest.mark.parametrize("touch", _TOUCHES)
def test_whatever_a_replica_queues_wakes_the_others(url: str, touch: str) -> None:
    with replica(url) as (listener, _), replica(url) as parts, listening(listener) as heard:
        assert listener.database.wake_ups.hears
        _TOUCHES[touch](*parts)
        assert heard.within()


def test_nothing_is_heard_before_it_is_committed_nor_what_never_is(url: str) -> None:
    with replica(url) as (listener, queue), replica(url) as (other, _):
        with listening(listener) as heard:
            with contextlib.suppress(ZeroDivisionError), other.database.writing() as connection:
                queueing.touch(connection, {B: ()}, EVENT, opened_store.now())
                _ = 1 / 0
            with other.database.writing() as connection:
                queueing.touch(connection, {A: ()}, EVENT, opened_store.now())
                assert not heard.within(0.4)
            assert heard.within()
            assert not heard.within(0.4)
        assert queue.depth() == (1, 0)


def test_what_queues_nothing_wakes_nobody(url: str) -> None:
    with replica(url) as (one, _), replica(url) as (other, queue), listening(one) as heard:
        other.inbox.accept([opened_store.delivery_of_nothing()])
        queue.touch([], EVENT)
        assert not heard.within(0.4)


def test_a_listener_that_was_cut_off_listens_again_and_says_so_once(
    url: str, postgresql: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_LONGEST_PAUSE_SECONDS", 0.01)
    caplog.set_level("INFO", "provisioner")
    with replica(url) as (listener, _), replica(url) as (_, queue), listening(listener) as heard:
        with postgresql.connect() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            )
        assert heard.within()  # that it hears no more
        assert heard.within()  # that it hears again
        queue.touch([A], EVENT)
        assert heard.within()
    events = [record.message for record in caplog.records if "wake-ups" in record.message]
    assert events == [
        "wake-ups of other replicas are not heard",
        "wake-ups of other replicas are heard again",
    ]


def test_a_listener_ends_when_the_store_is_closed(url: str) -> None:
    with replica(url) as (opened, _), listening(opened):
        assert opened.database.wake_ups.alive
    assert not opened.database.wake_ups.alive
    assert not opened.database.wake_ups.hears


def test_a_silent_connection_is_asked_now_and_then(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_TURN_SECONDS", 0.01)
    monkeypatch.setattr(wakeups, "_TURNS_BETWEEN_PROBES", 1)
    with replica(url) as (listener, _), replica(url) as (_, queue), listening(listener) as heard:
        for _ in range(3):
            queue.touch([A], EVENT)
            assert heard.within()


# --- locks ----------------------------------------------------------------------------------------


def _at_once(*calls: Callable[[], object], rounds: int = 40) -> list[BaseException]:
    """Call functions side by side, again and again; return what they raised."""
    together = threading.Barrier(len(calls))

    def repeat(call: Callable[[], object]) -> None:
        for _ in range(rounds):
            together.wait(30)
            call()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(repeat, call) for call in calls]
        raised = [each.exception() for each in running]
    return [each for each in raised if each is not None]


def test_writers_in_every_order_never_wait_for_each_other(url: str) -> None:
    some, many = opened_store.delivery(A), [opened_store.delivery(key) for key in KEYS]
    with replica(url, lease_seconds=0) as (one, first), replica(url) as (two, second):

        def lease_and_reap() -> None:
            for _ in range(3):
                first.lease("w")
            first.reap()

        raised = _at_once(
            lambda: one.inbox.accept([some, *many]),
            lambda: two.inbox.accept(many[::-1]),
            lambda: one.asks.ask(KEYS, model.Ask.ROTATE),
            lambda: second.touch(KEYS[::-1], EVENT, ports=["p2", "p1"]),
            lease_and_reap,
            second.reap,
        )
    assert raised == []


def test_a_wish_can_be_forgotten_while_it_is_asked_again(url: str) -> None:
    with replica(url) as (one, first), replica(url) as (two, _):
        first.touch([A], EVENT)
        lease = leased(first)
        raised = _at_once(
            lambda: one.asks.forget({model.Ask.ROTATE: opened_store.now()}, lease),
            lambda: two.asks.ask([A], model.Ask.ROTATE),
        )
    assert raised == []


def test_ports_are_looked_at_while_their_producer_is_reconciled(url: str) -> None:
    seen = [
        model.SeenPort(
            port_id=f"port-{number:02}",
            producer=A,
            producer_namespace="sales",
            port_namespace=f"p{number}",
            read_at=opened_store.now(),
        )
        for number in range(30)
    ]
    later = opened_store.now() + timedelta(hours=1)
    with replica(url) as (one, first), replica(url) as (two, _):
        first.touch([A], EVENT)
        lease = leased(first)
        one.contracts.register(A, seen, lease, seen_before=later)

        def claim_and_save() -> None:
            two.contracts.claim(limit=30, turn=lambda *_: later)
            two.contracts.save(seen, ())

        raised = _at_once(
            lambda: one.contracts.register(A, seen[::-1], lease, seen_before=later),
            claim_and_save,
            lambda: two.contracts.save(seen[::-1], ()),
        )
    assert raised == []


def test_replicas_that_prune_together_drop_everything_once(url: str) -> None:
    with replica(url) as (one, _), replica(url) as (two, _):
        one.inbox.accept([opened_store.delivery(A) for _ in range(50)])
        later = opened_store.now() + timedelta(hours=1)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            dropped = list(pool.map(lambda each: each.history.prune(later), (one, two)))
        assert sum(dropped) == 50
        assert one.history.deliveries(limit=9) == []


def test_a_process_that_stops_within_a_transaction_lets_go_of_its_key(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [each.replace("'10s'", "'50ms'") for each in places._SESSION]
    monkeypatch.setattr(places, "_SESSION", settings)
    with replica(url) as (stalled, queue), replica(url) as (other, _):
        queue.touch([A], EVENT)

        def stall() -> None:
            with stalled.database.writing() as connection:
                queueing.touch(connection, {A: ()}, EVENT, opened_store.now())
                other.inbox.accept([opened_store.delivery(A)])  # waits for the row, and gets it
                connection.execute(sqlalchemy.select(schema.queue))

        with pytest.raises(errors.StoreUnavailable):
            stall()
        assert len(other.history.deliveries(limit=9)) == 1


def test_who_waits_too_long_for_a_row_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [each.replace("'5s'", "'50ms'") for each in places._SESSION]
    monkeypatch.setattr(places, "_SESSION", settings)
    with replica(url) as (holder, queue), replica(url) as (other, _):
        queue.touch([A], EVENT)
        with holder.database.writing() as connection:
            queueing.touch(connection, {A: ()}, EVENT, opened_store.now())
            with pytest.raises(errors.StoreUnavailable) as caught:
                other.inbox.accept([opened_store.delivery(A)])
        assert caught.value.attributes == {"reason": "55P03"}
        assert other.history.deliveries(limit=9) == []


def test_nothing_of_a_batch_that_the_server_refuses_is_committed(url: str) -> None:
    nameless = dataclasses.replace(opened_store.delivery(A), id=None)  # type: ignore[arg-type]
    with replica(url) as (opened, queue):
        with pytest.raises(psycopg.errors.NotNullViolation):
            opened.inbox.accept([opened_store.delivery(A), nameless])
        assert queue.depth() == (0, 0)
        assert opened.history.deliveries(limit=9) == []

        opened.inbox.accept([opened_store.delivery(A)])

        assert queue.depth() == (1, 0)


def test_deliveries_wait_for_three_answers_of_the_server(url: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with replica(url) as (opened, _), trace.open("w") as file:
        for number in range(9):  # the driver prepares what it has executed five times
            if number == 8:
                pgconn = held(opened).pgconn
                pgconn.trace(file.fileno())
            opened.inbox.accept([opened_store.delivery(A), opened_store.delivery(B)])
        pgconn.untrace()

    answers = [line for line in trace.read_text().splitlines() if "ReadyForQuery" in line]
    assert len(answers) == 3  # to the beginning, the time, and all the rest with its commit


def held(opened: store.Store) -> psycopg.Connection[Any]:
    """Return the connection that deliveries are written on."""
    with opened.database.writing_often() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        return driver


def test_an_acknowledged_delivery_is_on_disk_whatever_the_default(
    postgresql: Server, database: str
) -> None:
    with postgresql.connect() as admin:
        admin.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
    with replica(postgresql.url(database)) as (opened, _), opened.database.reading() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


# --- migrations -----------------------------------------------------------------------------------

_START = """
import sys
from datetime import UTC, datetime
from provisioner import store
from provisioner.seal import Seal
url, key = sys.argv[1:]
store.open_store(url, Seal([key]), clock=lambda: datetime.now(UTC)).close()
"""


def test_of_replicas_that_start_together_one_migrates(postgresql: Server, database: str) -> None:
    url = postgresql.url(database)
    command = [sys.executable, "-c", _START, url, opened_store.KEY]
    starts = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [start.communicate(timeout=60)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0], said
    assert store.version(url) == migrations.HEAD


def test_of_threads_that_start_together_one_migrates(
    postgresql: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgraded: list[Any] = []
    upgrade = migrations.upgrade

    def counted(connection: sqlalchemy.Connection) -> None:
        upgraded.append(connection)
        upgrade(connection)

    monkeypatch.setattr(migrations, "upgrade", counted)
    url, together = postgresql.url(database), threading.Barrier(4)

    def start(_: int) -> str | None:
        together.wait()
        with replica(url):
            return store.version(url)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [migrations.HEAD] * 4
    assert len(upgraded) == 1


def test_a_newer_database_is_refused(postgresql: Server, database: str) -> None:
    url = postgresql.url(database)
    with replica(url):
        pass
    with postgresql.connect(database) as admin:
        admin.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(errors.ConfigurationError, match="PROV_DATABASE_URL"):
        store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now)
    assert store.version(url) == "9999"


def test_a_migration_that_fails_leaves_an_empty_database(
    postgresql: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = migrations.upgrade

    def half(connection: sqlalchemy.Connection) -> None:
        upgrade(connection)
        raise RuntimeError("power failure")

    monkeypatch.setattr(migrations, "upgrade", half)
    url = postgresql.url(database)
    with pytest.raises(RuntimeError):
        store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now)
    assert store.version(url) is None


def test_the_tables_are_those_that_the_statements_expect(url: str) -> None:
    with replica(url) as (opened, _), opened.database.reading() as connection:
        found = sqlalchemy.MetaData()
        found.reflect(connection)
    expected = {
        table.name: {c.name for c in table.columns} for table in schema.metadata.tables.values()
    }
    made = {name: {c.name for c in table.columns} for name, table in found.tables.items()}
    assert {**expected, "alembic_version": {"version_num"}} == made
