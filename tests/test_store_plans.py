"""Ten thousand products must cost an event no more than ten."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from provisioner import model, store, workqueue
from provisioner.seal import Seal
from provisioner.store import database, schema
from tests import memory_store, opened_store, published


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/state.db"


def _statements(engine_of: database.Database, recorded: list[str]) -> None:
    """Remember every statement that SQLite executes, with the values in it."""

    def trace(connection: Any, _record: object, _proxy: object) -> None:
        connection.set_trace_callback(recorded.append)

    sqlalchemy.event.listen(engine_of._engine, "checkout", trace)


def test_nothing_that_happens_per_event_walks_over_a_table(url: str, tmp_path: Path) -> None:
    recorded: list[str] = []
    with opened_store.serving(url) as (opened, queue):
        _statements(opened.database, recorded)
        opened.inbox.accept(
            [
                opened_store.delivery(
                    ports=frozenset({(opened_store.A, "p1")}), links=frozenset({"l1"}), resync=True
                )
            ]
        )
        lease = queue.lease("w")
        assert lease is not None
        queue.heartbeat(lease)
        opened.records.save(opened_store.record(), lease)
        opened.records.load(opened_store.A)
        opened.records.by_namespace("sales")
        opened.records.page(limit=10, after=opened_store.A)
        opened.records.due(opened_store.now())
        link = model.Link(
            id="l1",
            consumer=opened_store.A,
            producer_id=opened_store.A.id,
            port_id="p1",
            status=model.LinkStatus.DENIED,
        )
        opened.links.replace(opened_store.A, [link], lease)
        opened.links.replace(opened_store.A, [], lease)
        opened.links.consumers("p1")
        opened.contracts.register(
            opened_store.A,
            [published.a_port(producer=opened_store.A)],
            lease,
            seen_before=opened_store.now(),
        )
        opened.contracts.register(opened_store.A, [], lease, seen_before=opened_store.now())
        opened.contracts.of(["p1"])
        opened.contracts.of_producer(opened_store.A)
        opened.contracts.consumers("p1")
        opened.contracts.claim(limit=5, turn=lambda port, consumed, now: now)
        opened.contracts.save([published.a_port()], [opened_store.A])
        queue.touch([opened_store.A], model.Priority.EVENT)
        queue.done(lease, model.Outcome(key=opened_store.A, status="done"))
        again = queue.lease("w")
        assert again is not None
        queue.retry(again, model.Outcome(key=opened_store.A, status="retry"), 5)
        queue.reap()
        opened.history.outcomes(opened_store.A, limit=5)
        opened.history.deliveries(limit=5, before=99)
        opened.history.prune(opened_store.now())
    plans = _plans(tmp_path / "var" / "state.db", recorded)
    assert len(plans) > 25
    assert any("INSERT INTO queue_ports" in sql for sql in plans)
    assert {sql: plan for sql, plan in plans.items() if "SCAN" in plan} == {}


def _plans(path: Path, recorded: list[str]) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {
            sql: "; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
            for sql in recorded
            if sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
        }


def test_a_lease_looks_at_one_key_however_many_wait_for_a_retry(url: str) -> None:
    """Ten thousand keys that wait for their backoff must not be walked over."""
    keys = [model.Key.product(str(uuid.UUID(int=n))) for n in range(10_000)]
    clock = memory_store.SettableClock()
    with contextlib.closing(store.open_store(url, Seal([opened_store.KEY]), clock=clock)) as opened:
        assert opened.database.acquire()
        queue = workqueue.SqlWorkqueue(opened.database, clock=clock)
        queue.touch(keys, model.Priority.EVENT)
        with opened.database.writing() as connection:
            later = datetime(2027, 1, 1, tzinfo=UTC)
            connection.execute(sqlalchemy.update(schema.queue).values(ready_at=later))
        queue.touch([opened_store.A], model.Priority.EVENT)
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
    assert lease.key == opened_store.A
    assert 0 < steps < 1000
