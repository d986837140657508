"""A year of load: what is kept levels off."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from provisioner import model, store, telemetry, workqueue
from provisioner.loop import clockwork
from provisioner.seal import Seal
from provisioner.store import schema
from tests import memory_store

_DELIVERIES = 24
_DAYS_KEPT = 30


class Year:
    """A store on a real file, and a clock that is turned by days."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"
        self.clock = memory_store.SettableClock(datetime(2026, 1, 1, tzinfo=UTC))
        seal = Seal([Fernet.generate_key().decode()])
        self.store = store.open_store(f"sqlite:///{self.path}", seal, clock=self.clock)
        assert self.store.database.acquire()
        self.queue = workqueue.SqlWorkqueue(self.store.database, clock=self.clock)
        self.products = [model.Key.product(str(uuid.uuid4())) for _ in range(2)]
        self.timers = clockwork.Timers(
            queue=self.queue,
            records=self.store.records,
            history=self.store.history,
            clock=self.clock,
            history_days=_DAYS_KEPT,
            metrics=telemetry.Metrics(),
        )

    def two_days(self) -> None:
        """Live through two days: deliveries, reconciles, and a product that comes and goes."""
        self.clock.advance(2 * 86400)
        passing = model.Key.product(str(uuid.uuid4()))
        touched = [*self.products, passing]
        self.store.inbox.accept(
            [self._delivery(touched[n % len(touched)]) for n in range(_DELIVERIES)]
        )
        self.store.asks.ask([passing], model.Ask.ROTATE)
        while (lease := self.queue.lease("year")) is not None:
            self._reconcile(lease, is_passing=lease.key == passing)
        self.timers.tick()
        while self.timers.is_behind:
            self.timers.tick()

    def _delivery(self, key: model.Key) -> model.Delivery:
        return model.Delivery(
            id=str(uuid.uuid4()),
            received_at=self.clock(),
            wire=model.Wire.V1,
            subject="PUT /api/v2/data_products/{id}/about",
            status_code=200,
            touched=model.Touched(keys=frozenset({key}), ports=frozenset({(key, "port")})),
        )

    def _reconcile(self, lease: model.Lease, *, is_passing: bool) -> None:
        link = model.Link(
            id=str(uuid.uuid4()),
            consumer=lease.key,
            producer_id=self.products[0].id,
            port_id="port",
            status=model.LinkStatus.APPROVED,
        )
        self.store.links.replace(lease.key, [link], lease)
        if is_passing:
            self.store.links.replace(lease.key, [], lease)
            self.store.asks.forget(self.store.asks.of(lease.key), lease)
            self.store.records.save(model.Record(key=lease.key, namespace="passing"), lease)
        self.queue.done(lease, model.Outcome(key=lease.key, status="done"))

    def rows(self) -> dict[str, int]:
        with self.store.database.reading() as connection:
            return {
                table.name: connection.exec_driver_sql(
                    f"SELECT count(*) FROM {table.name}"
                ).scalar_one()
                for table in schema.metadata.sorted_tables
            }

    def size(self) -> int:
        return sum(each.stat().st_size for each in self.path.parent.glob("state.db*"))


@pytest.fixture
def year(tmp_path: Path) -> Iterator[Year]:
    made = Year(tmp_path)
    yield made
    made.store.close()


def test_a_year_of_load_leaves_no_more_than_two_months_of_it(year: Year) -> None:
    for _ in range(30):
        year.two_days()
    rows, size = year.rows(), year.size()
    for _ in range(153):
        year.two_days()
    assert rows["deliveries"] == (_DAYS_KEPT // 2 + 1) * _DELIVERIES
    # A released product stays known: who has its namespace next must not inherit from it.
    assert year.rows() == {**rows, "records": 183}
    assert year.size() < size * 1.5


def test_pruning_goes_by_lots_and_says_when_it_is_through(year: Year) -> None:
    key = year.products[0]
    for _ in range(25):
        year.store.inbox.accept([year._delivery(key) for _ in range(100)])
    later = year.clock() + timedelta(days=1)
    assert [year.store.history.prune(later) for _ in range(4)] == [1000, 1000, 500, 0]


def test_a_tick_prunes_one_lot_and_the_next_goes_on(year: Year) -> None:
    for _ in range(25):
        year.store.inbox.accept([year._delivery(year.products[0]) for _ in range(100)])
    year.clock.advance((_DAYS_KEPT + 1) * 86400)
    left = []
    for _ in range(4):
        year.timers.tick()
        left.append(year.rows()["deliveries"])
    assert left == [1500, 500, 0, 0]


def test_the_log_does_not_grow_for_ever_although_somebody_always_reads(
    year: Year, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.store.places._LARGEST_LOG_BYTES", 1024 * 1024)
    stopping = threading.Event()

    def read() -> None:
        while not stopping.is_set():
            with year.store.database.reading() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM deliveries").fetchall()
                time.sleep(0.002)

    readers = [threading.Thread(target=read) for _ in range(4)]
    sizes: list[Any] = []
    try:
        for reader in readers:
            reader.start()
        for _ in range(400):
            year.store.inbox.accept([year._delivery(year.products[0]) for _ in range(16)])
            year.store.database.tidy()
            sizes.append(year.size())
    finally:
        stopping.set()
        for reader in readers:
            reader.join()
    assert max(sizes) < 8 * 1024 * 1024


def test_tidying_leaves_whoever_reads_for_long_alone(
    year: Year, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.store.places._LARGEST_LOG_BYTES", 0)
    with year.store.database.reading() as connection:
        count = "SELECT count(*) FROM deliveries"
        before = connection.exec_driver_sql(count).scalar()
        year.store.inbox.accept([year._delivery(year.products[0])])
        year.store.database.tidy()
        assert connection.exec_driver_sql(count).scalar() == before
    assert year.rows()["deliveries"] == 1
