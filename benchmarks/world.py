"""Set up what is measured: the demo's stage, with a portal that remembers when it was asked."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from starlette.types import Receive, Scope, Send

from benchmarks import stores
from provisioner import assembly
from provisioner.demo import embedded_s3, stage
from provisioner.demo import portal as fake_portal
from provisioner.demo.portal import webhooks

_QUIET_SECONDS = 0.3
_VOLATILE = frozenset({"flags", "turns", "sqlite_sequence"})
"""Tables that asking for a resync writes to by itself, whatever it finds."""
_RESYNCS = "provisioner_resyncs_total{"
_NEVER = "86400"  # seconds


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
        self,
        made: stage.Stage,
        s3: embedded_s3.EmbeddedS3,
        players: TimedPortal,
        api: httpx.Client,
        *,
        database_url: str,
    ) -> None:
        self.made = made
        self.players = players
        self.environment = {
            **stage.environment(made, s3),
            "PROV_DATABASE_URL": database_url,
            # What comes by itself would be in the figures; resyncs are asked for.
            "PROV_RESYNC_SECONDS": _NEVER,
            "PROV_PORTS_SECONDS": "0",
            "PYTHONPATH": str(
                Path(assembly.__file__).parents[1]
            ),  # what is measured is what lies here
        }
        self.port = int(urlsplit(made.provisioner_url).port or 0)
        self._look: stores.Look | None = None
        self._api = api

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the service until the block ends; wait first until it has nothing to do."""
        with stage.serving(self.made, self.environment) as process:
            self._wait_resynced(1)
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
        while self._unquiet() or not self.look().is_idle():
            time.sleep(0.02)

    def _unquiet(self) -> bool:
        last = self.players.calls[-1][0] if self.players.calls else 0.0
        return time.perf_counter() - last < _QUIET_SECONDS

    def look(self) -> stores.Look:
        """Return a look into the store, which is there once the service has run."""
        if self._look is None:
            self._look = stores.Look(self.environment["PROV_DATABASE_URL"])
        return self._look

    def close(self) -> None:
        """Let go of the store."""
        if self._look is not None:
            self._look.close()

    def resync(self) -> tuple[float, list[str]]:
        """Ask for a resync; return its seconds and the methods of its calls to the portal.

        From its first call to its last: it begins at the next tick of a clock.
        """
        self.wait_idle()
        before = self._resyncs()
        self.players.calls.clear()
        token = {"Authorization": f"Bearer {self.made.admin_token}"}
        url = f"{self.made.provisioner_url}/api/v1/resync"
        httpx.post(url, headers=token).raise_for_status()
        self._wait_resynced(before + 1)
        self.wait_idle()
        calls = tuple(self.players.calls)
        return calls[-1][0] - calls[0][0], [method for _, method in calls]

    def _wait_resynced(self, times: float) -> None:
        while self._resyncs() < times:
            time.sleep(0.05)

    def _resyncs(self) -> float:
        """Return how many have ended, however they ended."""
        said = httpx.get(f"{self.made.provisioner_url}/metrics").raise_for_status().text
        lines = (line for line in said.splitlines() if line.startswith(_RESYNCS))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def written(self) -> tuple[dict[str, int], dict[str, list[Any]]]:
        """Return all that lies on disk: when files were written, and the rows of the store."""
        files = {str(path): path.lstat().st_mtime_ns for path in self.made.products.rglob("*")}
        held = self.look().all()
        return files, {name: rows for name, rows in held.items() if name not in _VOLATILE}

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


@contextlib.contextmanager
def world(root: Path, *, store: str = "sqlite") -> Iterator[World]:
    """Start portal, engine and, where it is a server, the store."""
    port = stage.free_port(0)
    players = TimedPortal(
        style="0.7.0", webhook_url=f"http://127.0.0.1:{port}/", webhook_secret=stage.SECRET
    )
    players.calls = []
    players.state.create_lifecycle("Ready")
    with (
        stores.opened(store, root) as database_url,
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
        here = World(made, s3, players, api, database_url=database_url)
        with contextlib.closing(here):
            yield here
