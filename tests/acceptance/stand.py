"""Run the real program against an embedded S3 and a small portal, each test in its own folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Protocol

import httpx

from provisioner.demo import portal as fake_portal
from provisioner.demo import stage
from tests import warm

SECRET = "demo-secret-key"
ADMIN_TOKEN = "an-admin-token-for-tests"
_LIMIT_SECONDS = 30.0


class Engine(Protocol):
    """An S3 engine that runs, and its admin."""

    @property
    def endpoint(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...


class Process(Protocol):
    """A service that runs."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


class Stand:
    """One portal, one bucket, one folder; the service is started and killed as tests like."""

    python: ClassVar[str] = sys.executable
    """What runs commands."""
    stubs: ClassVar[warm.Stubs | None] = None
    """What services are forked from, if they are."""

    def __init__(
        self,
        folder: Path,
        s3: Engine,
        portal: fake_portal.RunningPortal,
        port: int,
        *,
        issuer: str = "iam",
    ) -> None:
        self.folder = folder
        self.s3 = s3
        self.issuer = issuer
        self.running = portal
        self.portal = portal.portal
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.products = folder / "products"
        self.log = folder / "log"
        self.anew = False
        """Whether the service starts as operators start it: for tests that look at its process."""
        self.bucket = f"bucket-{folder.name[:40].lower().replace('_', '-')}-{port}"

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the settings of the service."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **{k: v for k, v in os.environ.items() if k.startswith(("COVERAGE_", "SSL_CERT_"))},
            "PROV_DPP_API_URL": self.running.url,
            "WEBHOOK_SECRET": SECRET,
            "PROV_TEMPLATE_OUTPUT_PATH": str(self.products),
            "PROV_DUCKDB_EXTENSION_DIRECTORY": str(self.folder / "duckdb"),
            "PROV_DATABASE_URL": f"sqlite:///{self.folder}/var/store.db",
            "PROV_ISSUER": self.issuer,
            "PROV_PORT": str(self.port),
            "PROV_LOG_FORMAT": "json",
            "PROV_ADMIN_TOKEN": ADMIN_TOKEN,
            "PROV_SHUTDOWN_SECONDS": "5",
            "S3_ENDPOINT": self.s3.endpoint,
            "S3_ACCESS_KEY": self.s3.access_key,
            "S3_SECRET_KEY": self.s3.secret_key,
            "S3_BUCKET": self.bucket,
            **changes,
        }

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [self.python, "-m", *arguments],
            cwd=self.folder,
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def provisioner(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run `provisioner` to its end."""
        return self.run("provisioner", *arguments, **changes)

    @contextlib.contextmanager
    def service(self, *options: str, **changes: str) -> Iterator[Process]:
        """Run the service until the block ends; it may be killed within."""
        process = self.start(*options, environ=self.environment(**changes))
        try:
            self.until(lambda: self.answers(process), "the service answers")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)

    def start(self, *options: str, environ: dict[str, str]) -> Process:
        """Start the service and wait for nothing."""
        words = ["-m", "provisioner", "serve", *options]
        with self.log.open("ab") as log:
            if self.stubs is not None and not self.anew:
                return self.stubs.start(words, cwd=self.folder, env=environ, output=log)
            return subprocess.Popen(
                [sys.executable, *words], cwd=self.folder, env=environ, stdout=log, stderr=log
            )

    def answers(self, process: Process) -> bool:
        assert process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health").status_code == 200
        return False

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for what other processes do."""
        ends = time.monotonic() + _LIMIT_SECONDS
        while not condition():
            assert time.monotonic() < ends, f"waited in vain: {what}\n{self.log_tail()}"
            time.sleep(0.02)

    def log_tail(self) -> str:
        return self.log.read_text()[-3000:] if self.log.exists() else ""

    def ready(self, namespace: str) -> bool:
        return (self.products / namespace / ".env").exists()

    def env_of(self, namespace: str) -> dict[str, str]:
        lines = (self.products / namespace / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def ready_facts(self) -> dict[str, object]:
        """Return what `/readyz` shows."""
        facts: dict[str, object] = httpx.get(f"{self.url}/readyz").json()
        return facts

    def api(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        return httpx.get(f"{self.url}/api/v1/{path}", headers=headers)


@contextlib.contextmanager
def stand(
    folder: Path,
    s3: Engine,
    *,
    style: str = "0.7.0",
    issuer: str = "iam",
    api_key: str | None = None,
    webhooks: bool = True,
) -> Iterator[Stand]:
    """Start a portal whose webhooks, if it has any, go to the service of this stand."""
    folder.mkdir(parents=True, exist_ok=True)
    port = stage.free_port(0)
    portal = fake_portal.FakePortal(
        style=style,
        api_key=api_key,
        webhook_url=f"http://127.0.0.1:{port}/" if webhooks else None,
        webhook_secret=SECRET,
        webhook_v2_url=f"http://portal:v2-password@127.0.0.1:{port}/webhook" if webhooks else None,
    )
    portal.state.create_lifecycle("Ready")
    with fake_portal.RunningPortal(portal) as running:
        yield Stand(folder, s3, running, port, issuer=issuer)
