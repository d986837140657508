"""Seal anew, count and forget on a real database, with somebody else writing it meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from cryptography.fernet import Fernet

from provisioner import model, store, workqueue
from provisioner.seal import Seal
from provisioner.store import schema, sealed

pytest_plugins = ["tests.database_server"]

OLD, NEW, GONE = (Fernet.generate_key().decode() for _ in range(3))
KEYS = [model.Key.product(str(uuid.UUID(int=n))) for n in range(1, 8)]
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
GRACE = timedelta(hours=2)


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make several pages of a few rows."""
    monkeypatch.setattr(sealed, "_PAGE", 2)


@contextlib.contextmanager
def opened(url: str, *keys: str, lost_key: bool = False) -> Iterator[store.Store]:
    held = store.open_store(url, Seal(keys), clock=lambda: NOW, lost_key=lost_key)
    with contextlib.closing(held):
        yield held


def write(held: store.Store, key: model.Key, secret: str | None) -> None:
    """Save a record as a worker does, with a secret or without one."""
    queue = workqueue.SqlWorkqueue(held.database, clock=lambda: NOW)
    queue.touch([key], model.Priority.EVENT)
    lease = queue.lease("w")
    assert lease is not None
    current = model.AccessKey(f"AKIA-{secret}", secret) if secret else None
    credentials = model.Credentials(principal="dp", generation=4, current=current)
    settled = model.Record(
        key=key, namespace="n", credentials=credentials, settled_digest="d", prefix=True
    )
    held.records.save(settled, lease)
    queue.done(lease, model.Outcome(key=lease.key, status="done"))


def fill(url: str, key: str, products: list[model.Key]) -> None:
    """Write products with a sealing key, whatever the others were sealed with."""
    with opened(url, key, lost_key=True) as held:
        for each in products:
            write(held, each, f"secret {each.id}")


def secret_of(held: store.Store, key: model.Key) -> str | None:
    found = held.records.load(key)
    assert found is not None
    return found.credentials.current.secret if found.credentials.current else None


class Meddled(Seal):
    """Do something between the reading and the writing of a page."""

    def __init__(self, keys: list[str], meddle: Callable[[], None]) -> None:
        super().__init__(keys)
        self.meddle = meddle

    def position(self, token: str) -> int | None:
        found = super().position(token)
        meddle, self.meddle = self.meddle, lambda: None
        meddle()
        return found


def test_an_empty_store_has_nothing_sealed(url: str) -> None:
    with opened(url, NEW) as held:
        assert held.seals() == store.Seals()
        assert held.sealed.renew() == 0
        assert held.sealed.forget(now=NOW, grace=GRACE) == 0


def test_rows_are_counted_by_the_key_that_opens_them(url: str) -> None:
    fill(url, OLD, KEYS[:3])
    fill(url, NEW, KEYS[3:5])
    fill(url, GONE, KEYS[5:6])
    with opened(url, NEW, OLD, lost_key=True) as held:
        write(held, KEYS[6], None)
        seals = held.seals()
    assert seals == store.Seals(first=2, older=3, unopened=1)
    assert not seals.all_first
    assert not dataclasses.replace(seals, older=0).all_first
    assert dataclasses.replace(seals, older=0, unopened=0).all_first


def test_after_sealing_anew_the_first_key_is_enough(url: str) -> None:
    fill(url, OLD, KEYS[:5])
    fill(url, NEW, KEYS[5:])
    with opened(url, NEW, OLD) as held:
        assert held.sealed.renew() == 5
        assert held.seals() == store.Seals(first=7)
        assert held.sealed.renew() == 0
    with opened(url, NEW) as held:
        assert [secret_of(held, key) for key in KEYS] == [f"secret {key.id}" for key in KEYS]


def test_sealing_anew_changes_nothing_else(url: str) -> None:
    fill(url, OLD, KEYS)
    with opened(url, NEW, OLD) as held:
        before = [held.records.load(key) for key in KEYS]
        held.sealed.renew()
        assert [held.records.load(key) for key in KEYS] == before


def test_a_row_that_a_worker_writes_meanwhile_keeps_what_the_worker_wrote(url: str) -> None:
    fill(url, OLD, KEYS)
    with opened(url, NEW, OLD) as held:
        assert held.database.acquire()

        def rewrite() -> None:
            write(held, KEYS[0], "written meanwhile")
            write(held, KEYS[1], None)

        meddled = sealed.SqlSealed(held.database, Meddled([NEW, OLD], rewrite))
        assert meddled.renew() == len(KEYS) - 2
        assert secret_of(held, KEYS[0]) == "written meanwhile"
        assert secret_of(held, KEYS[1]) is None
        assert held.seals() == store.Seals(first=len(KEYS) - 1)


def test_what_a_service_still_seals_with_the_old_key_is_found_at_the_end(url: str) -> None:
    fill(url, OLD, KEYS)
    with opened(url, OLD) as service, opened(url, NEW, OLD) as held:
        assert service.database.acquire()
        meddled = sealed.SqlSealed(
            held.database, Meddled([NEW, OLD], lambda: write(service, KEYS[0], "of the service"))
        )
        assert meddled.renew() == len(KEYS) - 1
        assert held.seals() == store.Seals(first=len(KEYS) - 1, older=1)
        assert secret_of(held, KEYS[0]) == "of the service"


def test_what_no_key_opens_is_left_as_it_is(url: str) -> None:
    fill(url, OLD, KEYS[:2])
    fill(url, GONE, KEYS[2:4])
    with opened(url, NEW, OLD, lost_key=True) as held:
        assert held.sealed.renew() == 2
        assert held.seals() == store.Seals(first=2, unopened=2)


class Interrupted(BaseException):
    """End the process."""


def stop_at(held: store.Store, keys: list[str], calls: int) -> sealed.SqlSealed:
    """Return what is interrupted when it has looked at that many rows."""

    class Stopping(Seal):
        left = calls

        def position(self, token: str) -> int | None:
            if not self.left:
                raise Interrupted
            self.left -= 1
            return super().position(token)

    return sealed.SqlSealed(held.database, Stopping(keys))


def test_sealing_anew_goes_on_where_it_was_interrupted(url: str) -> None:
    fill(url, OLD, KEYS)
    with opened(url, NEW, OLD) as held:
        with pytest.raises(Interrupted):
            stop_at(held, [NEW, OLD], 5).renew()
        assert held.seals() == store.Seals(first=4, older=3)
        assert held.sealed.renew() == 3
        assert held.seals() == store.Seals(first=7)


def test_only_what_no_key_opens_is_forgotten_and_its_products_are_queued(url: str) -> None:
    fill(url, NEW, KEYS[:3])
    fill(url, GONE, KEYS[3:])
    with opened(url, NEW, lost_key=True) as held:
        queue = workqueue.SqlWorkqueue(held.database, clock=lambda: NOW)
        kept = [held.records.load(key) for key in KEYS[:3]]
        assert held.sealed.forget(now=NOW, grace=GRACE) == 4
        assert [held.records.load(key) for key in KEYS[:3]] == kept
        assert held.seals() == store.Seals(first=3)
        for key in KEYS[3:]:
            record = held.records.load(key)
            assert record is not None
            credentials = record.credentials
            assert (credentials.principal, credentials.generation) == ("dp", 4)
            assert (credentials.current, credentials.pending) == (None, None)
            assert credentials.retiring == (model.Retiring(key_id=f"AKIA-secret {key.id}"),)
            assert (record.prefix, record.settled_digest) == (True, "")
            assert held.records.digests()[key] == ""
        leases = [queue.lease("w") for _ in range(5)]
        assert [lease and lease.key for lease in leases] == [*KEYS[3:], None]
        assert held.sealed.forget(now=NOW, grace=GRACE) == 0


def test_forgetting_goes_on_where_it_was_interrupted(url: str) -> None:
    fill(url, GONE, KEYS)
    with opened(url, NEW, lost_key=True) as held:
        queue = workqueue.SqlWorkqueue(held.database, clock=lambda: NOW)
        with pytest.raises(Interrupted):
            stop_at(held, [NEW], 5).forget(now=NOW, grace=GRACE)
        assert held.seals() == store.Seals(unopened=3)
        assert queue.depth() == (4, 0)
    with opened(url, NEW, lost_key=True) as held:
        assert held.sealed.forget(now=NOW, grace=GRACE) == 3
        assert workqueue.SqlWorkqueue(held.database, clock=lambda: NOW).depth() == (7, 0)
    with opened(url, NEW) as held:
        assert held.seals() == store.Seals()


def test_a_row_that_is_written_or_deleted_meanwhile_is_not_forgotten(url: str) -> None:
    fill(url, GONE, KEYS[:2])
    with opened(url, NEW, lost_key=True) as held:

        def rewrite() -> None:
            write(held, KEYS[0], "written meanwhile")
            with held.database.writing() as connection:
                gone = schema.records.c.key == str(KEYS[1])
                connection.execute(sqlalchemy.delete(schema.records).where(gone))

        meddled = sealed.SqlSealed(held.database, Meddled([NEW], rewrite))
        assert meddled.forget(now=NOW, grace=GRACE) == 0
        assert secret_of(held, KEYS[0]) == "written meanwhile"
        assert held.records.load(KEYS[1]) is None
