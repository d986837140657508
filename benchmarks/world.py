"""Set up what is measured: the demo's stage, with a portal that remembers when it was asked."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from starlette.types import Receive, Scope, Send

from provisioner import assembly, model, settings
from provisioner.demo import embedded_s3, stage
from provisioner.demo import portal as fake_portal
from provisioner.demo.portal import webhooks

_QUIET_SECONDS = 0.3
_VOLATILE = frozenset({"flags", "sqlite_sequence"})
"""Tables that asking for a resync writes to by itself."""


class TimedPortal(fake_portal.FakePortal):
    """Remember when each call came: (second, method)."""

    calls: list[tuple[float, str]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] == "http":
            self.calls.append((time.perf_counter(), scope["method"]))
        await super().__call__(scope, receive, send)


class World:
    """One portal, one engine, one folder; the service is started and ended by `serving`."""

    def __init__(
        self, made: stage.Stage, s3: embedded_s3.EmbeddedS3, players: TimedPortal, api: httpx.Client
    ) -> None:
        self.made = made
        self.players = players
        self.environment = {
            **stage.environment(made, s3),
            "PYTHONPATH": str(
                Path(assembly.__file__).parents[1]
            ),  # what is measured is what lies here
        }
        self.port = int(urlsplit(made.provisioner_url).port or 0)
        self._api = api

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the service until the block ends; wait first until it has nothing to do."""
        with stage.serving(self.made, self.environment) as process:
            self.wait_idle()
            yield process

    # --- what happens in the portal -------------------------------------------------------------

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Post to the portal as a person's browser does."""
        return self._api.post(path, json=body).raise_for_status().json()

    def create(self, namespace: str) -> str:
        """Create a product."""
        body = {"name": namespace, "namespace": namespace, "description": "", "about": ""}
        return str(self.post("data_products", body)["id"])

    def create_port(self, product: str, namespace: str) -> str:
        """Create an output port."""
        body = {"name": namespace, "namespace": namespace, "description": "", "tag_ids": []}
        body |= {"access_type": "restricted", "about": ""}
        return str(self.post(f"data_products/{product}/output_ports", body)["id"])

    # --- what the service does with it ----------------------------------------------------------

    def folder(self, namespace: str) -> Path:
        """Return the workspace of a product."""
        return self.made.products / namespace

    def wait_for(self, path: Path) -> None:
        """Wait until a file is there."""
        until = time.monotonic() + 30
        while not path.exists():
            if time.monotonic() > until:
                raise TimeoutError(path)
            time.sleep(0.0005)

    def wait_idle(self) -> None:
        """Wait until the service has left the portal alone for a while, and its queue is empty."""
        while self._unquiet() or self._rows("queue"):
            time.sleep(0.02)

    def _unquiet(self) -> bool:
        last = self.players.calls[-1][0] if self.players.calls else 0.0
        return time.perf_counter() - last < _QUIET_SECONDS

    def resync(self) -> tuple[float, list[str]]:
        """Ask for a resync; return its seconds and the methods of its calls to the portal.

        From its first call to its last: it begins at the next tick of a clock.
        """
        self.wait_idle()
        self.players.calls.clear()
        token = {"Authorization": f"Bearer {self.made.admin_token}"}
        url = f"{self.made.provisioner_url}/api/v1/resync"
        httpx.post(url, headers=token).raise_for_status()
        while not self.players.calls:
            time.sleep(0.01)
        self.wait_idle()
        calls = tuple(self.players.calls)
        return calls[-1][0] - calls[0][0], [method for _, method in calls]

    def written(self) -> tuple[dict[str, int], dict[str, list[Any]]]:
        """Return all that lies on disk: when files were written, and the rows of the store."""
        files = {str(path): path.lstat().st_mtime_ns for path in self.made.products.rglob("*")}
        with self._database() as database:
            named = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = [name for (name,) in named.fetchall() if name not in _VOLATILE]
        return files, {table: self._rows(table) for table in tables}

    def _rows(self, table: str) -> list[Any]:
        with self._database() as database:
            return database.execute(f"SELECT * FROM {table}").fetchall()

    def _database(self) -> contextlib.closing[sqlite3.Connection]:
        path = self.made.root / "provisioner.db"
        return contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True))

    # --- what is prepared -----------------------------------------------------------------------

    def delivery(self, product: str) -> bytes:
        """Prepare a signed delivery that touches a product."""
        message = {
            "method": "PUT",
            "url": f"/api/v2/data_products/{product}/about",
            "query": "",
            "response": "",
            "status_code": 200,
        }
        return self.request(message, webhooks.sign(stage.SECRET, message))

    @staticmethod
    def request(message: object, signature: str) -> bytes:
        """Prepare the bytes of a POST."""
        body = json.dumps(message, separators=(",", ":")).encode()
        head = (
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Sign: {signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def know(self, namespaces: list[str], like: str) -> None:
        """Make the store know products that are in order, while the service is down.

        Each record is a copy of one that the service made, so that memory and rows are real;
        keys and workspaces, which resync never looks at, are not made.
        """
        parts = assembly.assemble(settings.load(self.environment, cwd=self.made.root, serving=True))
        try:
            parts.store.database.acquire()
            pattern = parts.store.records.load(model.Key.product(like))
            assert pattern is not None
            for namespace in namespaces:
                self._know(parts, namespace, pattern)
        finally:
            parts.close()

    def _know(self, parts: assembly.Parts, namespace: str, pattern: model.Record) -> None:
        state = self.players.state
        known = state.products[pattern.key.id]
        product = state.create_product(namespace, lifecycle_id=known.lifecycle_id)
        state.products[product].finalizers += known.finalizers
        key = model.Key.product(product)
        wanted = parts.readings.desired(key)
        record = dataclasses.replace(
            pattern, key=key, namespace=namespace, name=namespace, settled_digest=wanted.digest
        )
        parts.queue.touch([key], model.Priority.EVENT)
        lease = parts.queue.lease("benchmark")
        assert lease is not None
        assert lease.key == key
        parts.store.records.save(record, lease)
        parts.queue.done(lease, model.Outcome(key=key, status="done"))


@contextlib.contextmanager
def world(root: Path) -> Iterator[World]:
    """Start portal and engine."""
    port = stage.free_port(0)
    players = TimedPortal(
        style="0.7.0", webhook_url=f"http://127.0.0.1:{port}/", webhook_secret=stage.SECRET
    )
    players.calls = []
    players.state.create_lifecycle("Ready")
    with (
        embedded_s3.EmbeddedS3() as s3,
        fake_portal.RunningPortal(players) as portal,
        httpx.Client(base_url=f"{portal.url}/api/v2/", timeout=10) as api,
    ):
        made = stage.Stage(
            root=root,
            products=root / "products",
            log=root / "provisioner.log",
            portal_url=portal.url,
            provisioner_url=f"http://127.0.0.1:{port}",
            s3_endpoint=s3.endpoint,
            admin_token=secrets.token_urlsafe(24),
        )
        yield World(made, s3, players, api)
