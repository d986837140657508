"""Restart the database, and kill its processes, while deliveries arrive and products reconcile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette

from provisioner import errors, model, store, telemetry
from provisioner import workqueue as queues
from provisioner.domain import signature
from provisioner.edge import receiver
from provisioner.loop import clockwork, worker
from provisioner.seal import Seal
from provisioner.store import wakeups
from tests import memory_portal, opened_store

if TYPE_CHECKING:
    from tests.database_server import Server

pytest_plugins = ["tests.database_server"]
pytestmark = pytest.mark.engine

_LEASE_SECONDS = 1.5


class Recording:
    """Reconcile by saving a record, and remember every run that was done to its end."""

    def __init__(self, held: store.Store) -> None:
        self._records = held.records
        self.done: set[model.Key] = set()

    def reconcile(
        self, lease: model.Lease, guard: Callable[[], None] = lambda: None
    ) -> model.Outcome:
        for step in ("begun", "saved"):
            guard()
            self._records.save(model.Record(key=lease.key, namespace="n", name=step), lease)
        self.done.add(lease.key)
        return model.Outcome(key=lease.key, status="done")


class Replica:
    """The receiver and the workers of one service, on a store."""

    def __init__(self, held: store.Store) -> None:
        self.store = held
        self.metrics = telemetry.Metrics()
        self.queue = queues.SqlWorkqueue(
            held.database, clock=opened_store.now, lease_seconds=_LEASE_SECONDS
        )
        self.reconciler = Recording(held)
        timers = clockwork.Timers(
            queue=self.queue,
            records=held.records,
            history=held.history,
            clock=opened_store.now,
            history_days=30,
            metrics=self.metrics,
        )
        self.crew = worker.Crew(
            worker.Duty(
                queue=self.queue,
                reconciler=self.reconciler,
                portal=memory_portal.MemoryPortal(),
                metrics=self.metrics,
                clock=opened_store.now,
                heartbeat_seconds=0.3,
            ),
            workers=2,
            clockwork={"timers": timers.tick},
            shutdown_seconds=5,
            hears=lambda: held.database.wake_ups.hears,
        )
        self.receiver = receiver.Receiver(
            held.inbox,
            signature.Proofs(allow_unsigned=True),
            clock=opened_store.now,
            new_id=lambda: str(uuid.uuid4()),
            metrics=self.metrics,
            on_changed=self.crew.wake,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        """Run it; a client of its own webhooks is given."""
        app = Starlette(routes=self.receiver.routes())
        taking_in = asyncio.create_task(self.receiver.run())
        self.crew.start()
        self.store.database.wake_ups.start(self.crew.wake)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            await until(lambda: self.receiver.running)
            yield client
        await self.crew.stop()
        taking_in.cancel()
        await asyncio.gather(taking_in, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what threads and another process do."""
    while not condition():  # noqa: ASYNC110 - they know no event of ours
        await asyncio.sleep(0.05)


async def deliver(client: httpx.AsyncClient, key: model.Key) -> int:
    """Send a delivery about a product; return the status of the answer."""
    message = {
        "method": "PUT",
        "url": f"/api/data_products/{key.id}",
        "query": "",
        "response": "",
        "status_code": 200,
    }
    return (await client.post("/", json=message)).status_code


def kill_a_backend(server: Server, database: str) -> None:
    """Kill one process of the server by SIGKILL: it ends all the others and starts again."""
    os.kill(server.backends(database)[0], signal.SIGKILL)


def restart(server: Server, _database: str) -> None:
    """Restart the server as after a power failure."""
    server.stop()
    server.start()


def cut_off(server: Server, database: str) -> None:
    """End every connection to the database but not the server."""
    with server.connect() as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
        )


@pytest.mark.parametrize("fail", [kill_a_backend, restart, cut_off], ids=lambda f: f.__name__)
def test_nothing_that_was_acknowledged_is_lost_when_the_database_fails(
    fail: Callable[[Server, str], None],
    postgresql: Server,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_POLL_SECONDS", "_TICK_SECONDS"):
        monkeypatch.setattr(worker, name, 0.05)
    monkeypatch.setattr(wakeups, "_LONGEST_PAUSE_SECONDS", 0.2)
    acknowledged: set[model.Key] = set()
    answers: list[int] = []

    async def send(client: httpx.AsyncClient, wanted: int) -> None:
        """Send until that many were acknowledged."""
        wanted += len(acknowledged)
        while len(acknowledged) < wanted:
            key = model.Key.product(str(uuid.uuid4()))
            answers.append(await deliver(client, key))
            if answers[-1] == 200:
                acknowledged.add(key)
            await asyncio.sleep(0.01)

    async def scenario(replica: Replica) -> None:
        def is_idle() -> bool:
            with contextlib.suppress(errors.StoreUnavailable):
                return replica.queue.depth() == (0, 0)
            return False

        async with asyncio.timeout(60), replica.running() as client:
            await send(client, 10)
            failing = asyncio.create_task(asyncio.to_thread(fail, postgresql, database))
            await send(client, 10)
            await failing
            await send(client, 10)
            await until(lambda: replica.reconciler.done >= acknowledged)
            await until(is_idle)
            await until(lambda: replica.store.database.wake_ups.hears)
            assert all(replica.crew.alive().values())

    held = store.open_store(
        postgresql.url(database), Seal([opened_store.KEY]), clock=opened_store.now
    )
    with contextlib.closing(held):
        replica = Replica(held)
        asyncio.run(scenario(replica))
        assert replica.metrics.registry.get_sample_value("provisioner_unexpected_errors_total") == 0
        assert {record.key for record in held.records.known()} >= acknowledged
    assert set(answers) <= {200, 503}
