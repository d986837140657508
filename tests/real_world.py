"""Reconcile on a real engine: real store, folders, issuer and prober, the demo's small portal.

All of it runs in this process, put together as the service puts it together, so that a test can
stop it before any effect, and start it again. Its clock is ahead of the engine's by as much as a
test likes: days need not be waited for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

from provisioner import assembly, model, settings
from provisioner.demo import portal as fake_portal
from provisioner.loop import worker
from tests import census

if TYPE_CHECKING:
    from tests.engines import Engine

GRACE_SECONDS = 3600


class Killed(BaseException):
    """End the process at this point; nothing in the program catches it."""


class FastClock:
    """Tell the time, ahead of all other clocks."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)


class RealWorld:
    """One engine, portal, store and output folder; `checkpoint` sees every effect beforehand."""

    def __init__(
        self, folder: Path, engine: Engine, portal: fake_portal.RunningPortal, **more: str
    ) -> None:
        self.engine = engine
        self.clock = FastClock()
        self.state = portal.portal.state
        self.state.clock = self.clock
        self.state.create_lifecycle("Ready")
        self.products = folder / "products"
        self.bucket = engine.name("lake")
        self.effects: list[str] = []
        self.checkpoint: Callable[[str], None] = lambda effect: None
        self._folder = folder
        self._environment = {
            "PROV_DPP_API_URL": portal.url,
            "PROV_ALLOW_UNSIGNED": "true",
            "PROV_TEMPLATE_OUTPUT_PATH": str(self.products),
            "PROV_DUCKDB_EXTENSION_DIRECTORY": str(folder / "duckdb"),
            "PROV_DATABASE_URL": f"sqlite:///{folder}/store.db",
            "PROV_SEALING_KEYS": Fernet.generate_key().decode(),
            "PROV_ISSUER": engine.issuer_name,
            "PROV_ROTATION_GRACE_SECONDS": str(GRACE_SECONDS),
            "S3_ENDPOINT": engine.endpoint,
            "S3_ACCESS_KEY": engine.admin.id,
            "S3_SECRET_KEY": engine.admin.secret,
            "S3_BUCKET": self.bucket,
            **more,
        }
        self._before = census.take(engine)
        self._start()

    def _start(self) -> None:
        read = settings.load(self._environment, cwd=self._folder)
        self.parts = assembly.assemble(read, clock=self.clock, checkpoint=self._note)
        assert self.parts.store.database.acquire()
        self.parts.queue.reap(all_owners=True)
        self._duty = worker.Duty(
            queue=self.parts.queue,
            reconciler=self.parts.reconciler,
            portal=self.parts.portal,
            metrics=self.parts.metrics,
            clock=self.clock,
        )

    def restart(self) -> None:
        """Do what a new process does at its start; what the old one held in memory is lost."""
        self.checkpoint = lambda effect: None
        self.parts.close()
        self._start()

    def _note(self, effect: str) -> None:
        self.effects.append(effect)
        self.checkpoint(effect)

    def reconcile(self, key: model.Key) -> model.Outcome:
        """Reconcile one key once, as a worker does; what it queued besides is done as well."""
        self.parts.queue.touch([key], model.Priority.EVENT)
        self.effects.clear()
        found = None
        while (lease := self.parts.queue.lease("test")) is not None:
            outcome = worker.run_once(self._duty, lease, worker.Guard(lease, self.clock))
            found = outcome if lease.key == key else found
        assert found is not None
        return found

    def settle(self, key: model.Key) -> None:
        """Reconcile until nothing is left to do now, waiting where a retry asks for it."""
        for _ in range(20):
            outcome = self.reconcile(key)
            if outcome.status == "retry":
                self.clock.advance(61)
            elif not (outcome.next_at and outcome.next_at <= self.clock()):
                return
        raise AssertionError(f"never settled: {outcome}")

    def rest(self, key: model.Key) -> None:
        """Let retries, strays and graces run out."""
        self.settle(key)
        self.clock.advance(GRACE_SECONDS + 1)
        self.settle(key)

    def record(self, key: model.Key) -> model.Record:
        found = self.parts.store.records.load(key)
        assert found is not None
        return found

    def env(self, namespace: str) -> Path:
        return self.products / namespace / ".env"

    def published_key(self, namespace: str) -> model.AccessKey | None:
        """Return the key that `.env` names."""
        if not self.env(namespace).exists():
            return None
        lines = self.env(namespace).read_text().splitlines()
        env = dict(line.split("=", 1) for line in lines)
        return model.AccessKey(env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"])

    def found(self) -> census.Census:
        """List what the engine has since this world began."""
        return census.take(self.engine).since(self._before)

    def expected(self) -> census.Census:
        """Return what the engine should have, by what the store knows."""
        keys = [record.key for record in self.parts.store.records.known()]
        return census.expected(self.engine, map(self.record, keys))


@contextlib.contextmanager
def world(folder: Path, engine: Engine, **more: str) -> Iterator[RealWorld]:
    """Start a portal and a world; settings may be added."""
    folder.mkdir(parents=True, exist_ok=True)
    portal = fake_portal.FakePortal(style="0.7.0")
    with fake_portal.RunningPortal(portal) as running:
        made = RealWorld(folder, engine, running, **more)
        try:
            yield made
        finally:
            made.parts.close()
