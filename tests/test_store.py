"""Try what only a real file shows: modes, locks, crashes, migrations, plans and full disks."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import types
import typing
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import config, script
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner import errors, migrations, model, store, workqueue
from provisioner.seal import Seal
from provisioner.store import codec, database, places, schema
from tests import memory_store

KEY = Fernet.generate_key().decode()
EVENT = model.Priority.EVENT
A = model.Key.product(str(uuid.UUID(int=1)))


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/state.db"


@contextlib.contextmanager
def _open(url: str) -> Iterator[store.Store]:
    opened = store.open_store(url, Seal([KEY]), clock=_now)
    try:
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def _serving(url: str) -> Iterator[tuple[store.Store, workqueue.SqlWorkqueue]]:
    with _open(url) as opened:
        assert opened.database.acquire()
        yield opened, workqueue.SqlWorkqueue(opened.database, clock=_now)


def _delivery(key: model.Key = A, **touched: Any) -> model.Delivery:
    return model.Delivery(
        id=str(uuid.uuid4()),
        received_at=_now(),
        wire=model.Wire.V1,
        subject="POST /api/data_products",
        status_code=200,
        touched=model.Touched(keys=frozenset({key}), **touched),
    )


def _record(key: model.Key = A) -> model.Record:
    current = model.AccessKey("AKIAPUBLIC", "a very secret key")
    return model.Record(key=key, namespace="sales", credentials=model.Credentials(current=current))


# --- one file, one process ------------------------------------------------------------------------


def test_the_database_is_closed_to_other_users(url: str, tmp_path: Path) -> None:
    with _serving(url) as (opened, _):
        opened.inbox.accept([_delivery()])
        folder = tmp_path / "var"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    names = ("state.db", "state.db-wal", "state.db-shm", "state.db.lock")
    assert modes == dict.fromkeys(names, 0o600)


def test_every_commit_reaches_the_disk(url: str) -> None:
    with _open(url) as opened, opened.database.writing() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert found == ["wal", 2, 1, 5000]


def test_no_secret_is_in_the_files(url: str, tmp_path: Path) -> None:
    with _serving(url) as (opened, queue):
        queue.touch([A], EVENT)
        lease = queue.lease("w")
        assert lease is not None
        opened.records.save(_record(), lease)
        held = b"".join(path.read_bytes() for path in (tmp_path / "var").iterdir())
    assert b"AKIAPUBLIC" in held
    assert b"very secret" not in held


_CHILD = """
import sys, uuid, signal
from datetime import UTC, datetime
from provisioner import model, store
from provisioner.seal import Seal
url, key, product = sys.argv[1:]
opened = store.open_store(url, Seal([key]), clock=lambda: datetime.now(UTC))
assert opened.database.acquire()
opened.inbox.accept([model.Delivery(
    id=str(uuid.uuid4()), received_at=datetime.now(UTC), wire=model.Wire.V1, subject="s",
    status_code=200, touched=model.Touched(keys=frozenset({model.Key.parse(product)})),
)])
print("accepted", flush=True)
signal.pause()
"""


@contextlib.contextmanager
def _other_process(url: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that serves the store and has accepted a delivery for `A`."""
    command = [sys.executable, "-c", _CHILD, url, KEY, str(A)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "accepted\n"
            yield child
        finally:
            child.kill()


def test_what_was_accepted_outlives_a_kill(url: str) -> None:
    with _other_process(url) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
    with _serving(url) as (opened, queue):
        assert [row["touched"] for row in opened.history.deliveries(limit=9)] == [(str(A),)]
        lease = queue.lease("w")
        assert lease is not None
        assert lease.key == A


def test_beside_a_process_that_serves_one_may_look_and_queue_but_not_lease(url: str) -> None:
    with _other_process(url) as child, _open(url) as opened:
        queue = workqueue.SqlWorkqueue(opened.database, clock=_now)
        assert not opened.database.acquire()
        assert not opened.database.is_serving
        assert len(opened.history.deliveries(limit=9)) == 1
        queue.touch([model.Key.product(str(uuid.UUID(int=2)))], EVENT)
        assert queue.depth() == (2, 0)
        with pytest.raises(errors.StoreUnavailable):
            queue.lease("w")
        child.kill()
        child.wait()
        assert opened.database.acquire()
        assert opened.database.acquire()
        assert queue.lease("w") is not None


def test_only_the_process_that_serves_frees_leases_that_still_hold(url: str) -> None:
    with _serving(url) as (_, queue):
        queue.touch([A], EVENT)
        assert queue.lease("w") is not None
        with _open(url) as other:
            beside = workqueue.SqlWorkqueue(other.database, clock=_now)
            assert beside.reap(all_owners=True) == 0
        assert queue.reap(all_owners=True) == 1


def test_closing_lets_another_serve(url: str) -> None:
    with _open(url) as waiting:
        with _serving(url):
            assert not waiting.database.acquire()
        assert waiting.database.acquire()


# --- migrations -----------------------------------------------------------------------------------


def _schema_of(path: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in rows if name != "alembic_version"}


def test_migrations_make_the_tables_that_the_queries_know(url: str, tmp_path: Path) -> None:
    with _open(url):
        pass
    drawn = tmp_path / "drawn.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{drawn}")
    schema.metadata.create_all(engine)
    engine.dispose()
    assert _schema_of(tmp_path / "var" / "state.db") == _schema_of(drawn)


def test_the_newest_version_is_the_one_we_name() -> None:
    settings = config.Config()
    settings.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert script.ScriptDirectory.from_config(settings).get_heads() == [migrations.HEAD]


def test_a_database_that_is_up_to_date_is_opened_without_migrating(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _open(url):
        pass
    monkeypatch.setattr(migrations, "upgrade", None)
    with _open(url) as opened:
        assert opened.database.healthy()


def test_a_migration_happens_as_a_whole_or_not_at_all(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(connection: sqlalchemy.Connection) -> None:
        migrations_upgrade(connection)
        raise RuntimeError("power failure")

    migrations_upgrade = migrations.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "upgrade", half)
        with pytest.raises(RuntimeError):
            store.open_store(url, Seal([KEY]), clock=_now)
    assert _schema_of(tmp_path / "var" / "state.db") == {}
    with _open(url) as opened:
        assert opened.database.healthy()


def test_starts_that_race_migrate_once(url: str) -> None:
    def start(_: int) -> bool:
        with _open(url) as opened:
            return opened.database.healthy()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [True] * 4


def test_nothing_is_migrated_under_a_process_that_serves(url: str, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    with (tmp_path / "var" / "state.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(errors.StoreUnavailable, match="must be migrated"):
            store.open_store(url, Seal([KEY]), clock=_now)
    with _open(url) as opened:
        assert opened.database.healthy()


def test_a_database_of_a_newer_version_is_refused(url: str, tmp_path: Path) -> None:
    with _open(url):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "var" / "state.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(errors.ConfigurationError, match="PROV_DATABASE_URL"):
        store.open_store(url, Seal([KEY]), clock=_now)


# --- sealing --------------------------------------------------------------------------------------


def _save_a_secret(url: str) -> None:
    with _serving(url) as (opened, queue):
        queue.touch([A], EVENT)
        lease = queue.lease("w")
        assert lease is not None
        opened.records.save(_record(), lease)


def test_a_store_that_no_key_opens_stops_the_start(url: str) -> None:
    _save_a_secret(url)
    other = Seal([Fernet.generate_key().decode()])
    with pytest.raises(errors.ConfigurationError, match="PROV_SEALING_KEYS"):
        store.open_store(url, other, clock=_now)


def test_an_older_key_still_opens_the_store(url: str) -> None:
    _save_a_secret(url)
    both = Seal([Fernet.generate_key().decode(), KEY])
    opened = store.open_store(url, both, clock=_now)
    with contextlib.closing(opened):
        assert opened.records.load(A) == _record()


def test_whoever_makes_the_seal_is_told_whether_anything_is_sealed(url: str) -> None:
    told = []

    def make(has_sealed: bool) -> Seal:
        told.append(has_sealed)
        return Seal([KEY])

    store.open_store(url, make, clock=_now).close()
    _save_a_secret(url)
    store.open_store(url, make, clock=_now).close()
    assert told == [False, True]


# --- what can go wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    ["", "nonsense", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=ro", "mysql://u:pw@h/d"],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(wrong: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        store.open_store(wrong, Seal([KEY]), clock=_now)
    (line,) = caught.value.problems
    assert line.startswith("PROV_DATABASE_URL: expects ")
    assert "pw" not in line


def test_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.ConfigurationError, match="PROV_DATABASE_URL"):
        store.open_store(f"sqlite:///{tmp_path}/file/state.db", Seal([KEY]), clock=_now)


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    url = "postgresql+psycopg://user:hidden-password@127.0.0.1:1/state?connect_timeout=1"
    with pytest.raises(errors.StoreUnavailable) as caught:
        store.open_store(url, Seal([KEY]), clock=_now)
    assert "hidden-password" not in f"{caught.value} {caught.value.__cause__}"


def test_a_file_that_is_no_database_is_unavailable(url: str, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "state.db").write_bytes(b"something else entirely " * 99)
    with pytest.raises(errors.StoreUnavailable) as caught:
        store.open_store(url, Seal([KEY]), clock=_now)
    assert caught.value.attributes == {"reason": "SQLITE_NOTADB"}


def test_a_database_that_was_removed_takes_nothing_in(url: str, tmp_path: Path) -> None:
    with _open(url) as opened:
        (tmp_path / "var" / "state.db").unlink()
        with pytest.raises(errors.StoreUnavailable, match="gone"):
            opened.inbox.accept([_delivery()])
        assert not opened.database.healthy()
        (tmp_path / "var" / "state.db").touch()
        with pytest.raises(errors.StoreUnavailable, match="replaced"):
            opened.records.known()


def test_a_database_that_somebody_keeps_locked_is_unavailable(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_BUSY_SECONDS", 0.01)
    with _open(url) as opened:
        path = tmp_path / "var" / "state.db"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            with pytest.raises(errors.StoreUnavailable) as caught:
                opened.inbox.accept([_delivery()])
            assert opened.history.deliveries(limit=9) == []
            somebody.execute("ROLLBACK")
        assert caught.value.attributes == {"reason": "SQLITE_BUSY"}
        opened.inbox.accept([_delivery()])
        assert len(opened.history.deliveries(limit=9)) == 1


def test_a_full_disk_takes_nothing_in_and_recovers(url: str) -> None:
    with _open(url) as opened:

        def limit(pages: int) -> None:
            with opened.database.reading() as connection:
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        many = [_delivery(model.Key.product(str(uuid.UUID(int=n)))) for n in range(2000)]
        limit(1)  # SQLite takes the present size instead
        with pytest.raises(errors.StoreUnavailable) as caught:
            opened.inbox.accept(many)
        assert caught.value.attributes == {"reason": "SQLITE_FULL"}
        assert opened.history.deliveries(limit=1) == []
        limit(1_000_000)
        opened.inbox.accept(many)
        assert len(opened.history.deliveries(limit=9999)) == 2000


def test_a_broken_constraint_is_a_bug_and_stays_one(url: str) -> None:
    twice = {"name": "f", "value": "v"}
    with (
        _open(url) as opened,
        pytest.raises(sqlalchemy.exc.IntegrityError),
        opened.database.writing() as connection,
    ):
        connection.execute(sqlalchemy.insert(schema.flags), [twice, twice])


def test_what_failed_half_way_left_nothing(url: str) -> None:
    def stop_half_way(connection: sqlalchemy.Connection) -> None:
        connection.execute(sqlalchemy.insert(schema.flags), {"name": "f", "value": "v"})
        raise RuntimeError("a bug")

    with _open(url) as opened:
        with pytest.raises(RuntimeError), opened.database.writing() as connection:
            stop_half_way(connection)
        assert opened.flags.get("f") is None


# --- many at once ---------------------------------------------------------------------------------


def test_no_key_is_leased_twice_and_none_is_lost(url: str) -> None:
    keys = [model.Key.product(str(uuid.UUID(int=n))) for n in range(40)]
    running: Counter[model.Key] = Counter()
    collisions: list[model.Key] = []
    seen: set[model.Key] = set()
    guard, sent = threading.Lock(), threading.Event()

    def send(some: list[model.Key]) -> None:
        for key in some:
            opened.inbox.accept([_delivery(key)])

    def work(owner: str) -> None:
        while True:
            finished = sent.is_set()
            lease = queue.lease(owner)
            if lease is None:
                if finished:
                    return
                continue
            with guard:
                running[lease.key] += 1
                if running[lease.key] > 1:
                    collisions.append(lease.key)
                seen.add(lease.key)
            queue.heartbeat(lease)
            with guard:
                running[lease.key] -= 1
            queue.done(lease, model.Outcome(key=lease.key, status="done"))

    with _serving(url) as (opened, queue), concurrent.futures.ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(work, f"w{n}") for n in range(3)]
        senders = [pool.submit(send, keys[n::3] * 2) for n in range(3)]
        for sender in senders:
            sender.result()
        sent.set()
        for worker in workers:
            worker.result()
        assert queue.depth() == (0, 0)
    assert collisions == []
    assert seen == set(keys)


# --- ten thousand products ------------------------------------------------------------------------


def _statements(engine_of: database.Database, recorded: list[tuple[str, Any]]) -> None:
    """Remember every statement that a database executes."""

    def remember(_c: Any, _cursor: Any, statement: str, given: Any, _x: Any, many: bool) -> None:
        recorded.append((statement, given[0] if many else given))

    sqlalchemy.event.listen(engine_of._engine, "before_cursor_execute", remember)


def test_nothing_that_happens_per_event_walks_over_a_table(url: str, tmp_path: Path) -> None:
    recorded: list[tuple[str, Any]] = []
    with _serving(url) as (opened, queue):
        _statements(opened.database, recorded)
        opened.inbox.accept(
            [_delivery(ports=frozenset({(A, "p1")}), links=frozenset({"l1"}), resync=True)]
        )
        lease = queue.lease("w")
        assert lease is not None
        queue.heartbeat(lease)
        opened.records.save(_record(), lease)
        opened.records.load(A)
        opened.records.by_namespace("sales")
        opened.records.page(limit=10, after=A)
        opened.records.due(_now())
        link = model.Link(
            id="l1", consumer=A, producer_id=A.id, port_id="p1", status=model.LinkStatus.DENIED
        )
        opened.links.replace(A, [link], lease)
        opened.links.replace(A, [], lease)
        opened.links.consumers("p1")
        queue.touch([A], EVENT)
        queue.done(lease, model.Outcome(key=A, status="done"))
        again = queue.lease("w")
        assert again is not None
        queue.retry(again, model.Outcome(key=A, status="retry"), 5)
        queue.next_ready_at()
        queue.reap()
        opened.history.outcomes(A, limit=5)
        opened.history.deliveries(limit=5, before=99)
        opened.history.prune(_now())
    plans = _plans(tmp_path / "var" / "state.db", recorded)
    assert len(plans) > 25
    assert {sql: plan for sql, plan in plans.items() if "SCAN" in plan} == {}


def _plans(path: Path, recorded: list[tuple[str, Any]]) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {
            sql: "; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", given))
            for sql, given in recorded
            if sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
        }


def test_a_lease_looks_at_one_key_however_many_wait_for_a_retry(url: str) -> None:
    """Ten thousand keys that wait for their backoff must not be walked over."""
    keys = [model.Key.product(str(uuid.UUID(int=n))) for n in range(10_000)]
    clock = memory_store.SettableClock()
    with contextlib.closing(store.open_store(url, Seal([KEY]), clock=clock)) as opened:
        assert opened.database.acquire()
        queue = workqueue.SqlWorkqueue(opened.database, clock=clock)
        queue.touch(keys, EVENT)
        with opened.database.writing() as connection:
            later = datetime(2027, 1, 1, tzinfo=UTC)
            connection.execute(sqlalchemy.update(schema.queue).values(ready_at=later))
        queue.touch([A], EVENT)
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        with opened.database.reading() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.set_progress_handler(count, 1)
        lease = queue.lease("w")
        raw.set_progress_handler(None, 1)
    assert lease is not None
    assert lease.key == A
    assert 0 < steps < 1000


# --- the codec ------------------------------------------------------------------------------------

_texts = st.text(st.characters(codec=None, categories=None), max_size=8)
_LEAVES: dict[object, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(),
    str: _texts,
    date: st.dates(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    model.AccessKey: st.builds(model.AccessKey, _texts, st.text(min_size=1, max_size=8)),
    model.Key: st.builds(
        lambda kind, n: model.Key(kind, str(n)), st.sampled_from(model.Kind), st.uuids()
    ),
    model.Location: st.builds(
        lambda bucket, path: model.Location(bucket=bucket, prefix=f"{path}/"), _texts, _texts
    ),
}


def _any(kind: Any) -> st.SearchStrategy[Any]:
    """Make values of a type of the model, every field filled."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return st.none() | _any(arguments[0])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(_any(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(_any, arguments))
    if kind in _LEAVES:
        return _LEAVES[kind]
    if dataclasses.is_dataclass(kind):
        fields = typing.get_type_hints(kind).items()
        return st.builds(typing.cast("Any", kind), **{name: _any(hint) for name, hint in fields})
    return st.sampled_from(kind)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(record=_any(model.Record))
def test_every_record_survives_the_round_trip(record: model.Record) -> None:
    text, secrets = codec.encode(record)
    assert codec.decode(text, secrets) == record
    assert text.isascii()


def test_a_record_of_an_older_or_newer_version_is_read() -> None:
    text, _ = codec.encode(model.Record(key=A, namespace="sales", name="Sales"))
    changed = text.replace('"name":"Sales"', '"unknown":{"a":[1]}')
    assert codec.decode(changed, {}) == model.Record(key=A, namespace="sales")


def test_a_naive_moment_is_refused(url: str) -> None:
    with _open(url) as opened, pytest.raises((TypeError, sqlalchemy.exc.StatementError)):
        opened.history.prune(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_days_come_back_as_days() -> None:
    grant = model.Grant(
        producer_id="p",
        producer_namespace="p",
        port_id="o",
        port_namespace="o",
        access=model.Access.READ,
        locations=(),
        valid_until=date(2026, 12, 31),
    )
    text, _ = codec.encode(model.Record(key=A, namespace="n", grants=(grant,)))
    assert codec.decode(text, {}).grants == (grant,)
