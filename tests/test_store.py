"""Try what only a real database shows: modes, locks, crashes, keys that do not fit."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import stat
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from provisioner import errors, model, store, workqueue
from provisioner.seal import Seal
from tests import opened_store

pytest_plugins = ["tests.database_server"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/state.db"


def test_the_database_is_closed_to_other_users(url: str, tmp_path: Path) -> None:
    with opened_store.serving(url) as (opened, _):
        opened.inbox.accept([opened_store.delivery()])
        folder = tmp_path / "var"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    names = ("state.db", "state.db-wal", "state.db-shm", "state.db.lock")
    assert modes == dict.fromkeys(names, 0o600)


def test_every_commit_reaches_the_disk(url: str) -> None:
    with opened_store.opened(url) as opened, opened.database.writing() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert found == ["wal", 2, 1, 5000]


def test_no_secret_is_in_the_files(url: str, tmp_path: Path) -> None:
    with opened_store.serving(url) as (opened, queue):
        queue.touch([opened_store.A], model.Priority.EVENT)
        lease = queue.lease("w")
        assert lease is not None
        opened.records.save(opened_store.record(), lease)
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
    """Run a process that serves the store and has accepted a delivery for `opened_store.A`."""
    command = [sys.executable, "-c", _CHILD, url, opened_store.KEY, str(opened_store.A)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "accepted\n"
            yield child
        finally:
            child.kill()


def test_what_was_accepted_outlives_a_kill(any_url: str) -> None:
    with _other_process(any_url) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
    with opened_store.serving(any_url) as (opened, queue):
        assert [row["touched"] for row in opened.history.deliveries(limit=9)] == [
            (str(opened_store.A),)
        ]
        lease = queue.lease("w")
        assert lease is not None
        assert lease.key == opened_store.A


def test_beside_a_process_that_serves_one_may_look_and_queue_but_not_lease(url: str) -> None:
    with _other_process(url) as child, opened_store.opened(url) as opened:
        queue = workqueue.SqlWorkqueue(opened.database, clock=opened_store.now)
        assert not opened.database.acquire()
        assert not opened.database.is_serving
        assert len(opened.history.deliveries(limit=9)) == 1
        queue.touch([model.Key.product(str(uuid.UUID(int=2)))], model.Priority.EVENT)
        assert queue.depth() == (2, 0)
        with pytest.raises(errors.StoreUnavailable):
            queue.lease("w")
        child.kill()
        child.wait()
        assert opened.database.acquire()
        assert opened.database.acquire()
        assert queue.lease("w") is not None


def test_only_the_process_that_serves_frees_leases_that_still_hold(url: str) -> None:
    with opened_store.serving(url) as (_, queue):
        queue.touch([opened_store.A], model.Priority.EVENT)
        assert queue.lease("w") is not None
        with opened_store.opened(url) as other:
            beside = workqueue.SqlWorkqueue(other.database, clock=opened_store.now)
            assert beside.reap(all_owners=True) == 0
        assert queue.reap(all_owners=True) == 1


def test_closing_lets_another_serve(url: str) -> None:
    with opened_store.opened(url) as waiting:
        with opened_store.serving(url):
            assert not waiting.database.acquire()
        assert waiting.database.acquire()


def _save_a_secret(url: str) -> None:
    with opened_store.serving(url) as (opened, queue):
        queue.touch([opened_store.A], model.Priority.EVENT)
        lease = queue.lease("w")
        assert lease is not None
        opened.records.save(opened_store.record(), lease)


def test_a_store_that_no_key_opens_stops_the_start(any_url: str) -> None:
    _save_a_secret(any_url)
    other = Seal([Fernet.generate_key().decode()])
    with pytest.raises(errors.ConfigurationError, match="PROV_SEALING_KEYS"):
        store.open_store(any_url, other, clock=opened_store.now)


def test_one_secret_that_no_key_opens_is_enough_to_stop_the_start(any_url: str) -> None:
    _save_a_secret(any_url)
    newer = Fernet.generate_key().decode()
    second = model.Key.product(str(uuid.UUID(int=2)))
    both = Seal([newer, opened_store.KEY])
    with contextlib.closing(store.open_store(any_url, both, clock=opened_store.now)) as opened:
        assert opened.database.acquire()
        queue = workqueue.SqlWorkqueue(opened.database, clock=opened_store.now)
        queue.touch([second], model.Priority.EVENT)
        lease = queue.lease("w")
        assert lease is not None
        opened.records.save(opened_store.record(second), lease)
    for alone in (newer, opened_store.KEY):
        with pytest.raises(errors.ConfigurationError, match="PROV_SEALING_KEYS"):
            store.open_store(any_url, Seal([alone]), clock=opened_store.now)


def test_an_older_key_still_opens_the_store(any_url: str) -> None:
    _save_a_secret(any_url)
    both = Seal([Fernet.generate_key().decode(), opened_store.KEY])
    opened = store.open_store(any_url, both, clock=opened_store.now)
    with contextlib.closing(opened):
        assert opened.records.load(opened_store.A) == opened_store.record()


def test_whoever_makes_the_seal_is_told_whether_anything_is_sealed(any_url: str) -> None:
    told = []

    def make(has_sealed: bool) -> Seal:
        told.append(has_sealed)
        return Seal([opened_store.KEY])

    store.open_store(any_url, make, clock=opened_store.now).close()
    _save_a_secret(any_url)
    store.open_store(any_url, make, clock=opened_store.now).close()
    assert told == [False, True]


def test_no_key_is_leased_twice_and_none_is_lost(any_url: str) -> None:
    keys = [model.Key.product(str(uuid.UUID(int=n))) for n in range(40)]
    running: Counter[model.Key] = Counter()
    collisions: list[model.Key] = []
    seen: set[model.Key] = set()
    guard, sent = threading.Lock(), threading.Event()

    def send(some: list[model.Key]) -> None:
        for key in some:
            opened.inbox.accept([opened_store.delivery(key)])

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

    with (
        opened_store.serving(any_url) as (opened, queue),
        concurrent.futures.ThreadPoolExecutor(6) as pool,
    ):
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
