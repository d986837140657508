"""Set the stage of the demo: an embedded S3, a portal, and the provisioner as its own process.

Everything listens on the loopback address and lives below one folder, which is emptied at the
start; nothing outside of it is touched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import httpx

from provisioner import errors
from provisioner.demo import embedded_s3
from provisioner.demo import portal as fake_portal
from provisioner.settings import types as setting_types

SECRET = "demo-secret-key"  # noqa: S105 - as users of the portal's demo know it
BUCKET = "data-products"
_MARK = ".made-by-provisioner-demo"
_HOST = "127.0.0.1"
_START_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where everything of a running demo is."""

    root: Path
    products: Path
    log: Path
    portal_url: str
    provisioner_url: str
    s3_endpoint: str
    admin_token: str

    @property
    def settings(self) -> Path:
        """Return the file with the settings of the demo's provisioner, for a shell to read."""
        return self.root / "provisioner.env"


@contextlib.contextmanager
def stage(root: Path, *, on_ready: Callable[[str], None] = lambda line: None) -> Iterator[Stage]:
    """Start all three, yield where they are, and end what was started."""
    _check(root)
    _empty(root)
    port = free_port(8090)
    players = fake_portal.FakePortal(
        style="0.7.0", webhook_url=f"http://{_HOST}:{port}/", webhook_secret=SECRET
    )
    players.state.create_lifecycle("Ready")
    with embedded_s3.EmbeddedS3() as s3, fake_portal.RunningPortal(players) as portal:
        on_ready(f"S3 and IAM on {s3.endpoint}, a portal on {portal.url}")
        made = Stage(
            root=root,
            products=root / "products",
            log=root / "provisioner.log",
            portal_url=portal.url,
            provisioner_url=f"http://{_HOST}:{port}",
            s3_endpoint=s3.endpoint,
            admin_token=secrets.token_urlsafe(24),
        )
        environ = environment(made, s3)
        _write_settings(made.settings, environ)
        with serving(made, environ):
            on_ready(f"the provisioner on {made.provisioner_url}")
            yield made


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the block in good order, also in the background.

    The first one counts; what was started is ended undisturbed by more of them.
    """
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(_number: int, _frame: FrameType | None) -> None:
        for each in wanted:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, end) for each in wanted}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _check(root: Path) -> None:
    """Refuse a path that could not stand in `.env`, before anything is made."""
    try:
        setting_types.plain_path(str(root))
    except setting_types.Unfit as exc:
        raise errors.ConfigurationError(
            (f"--folder: expects {exc}; for example --folder /tmp/provisioner-demo",)
        ) from exc


def _write_settings(file: Path, environment: Mapping[str, str]) -> None:
    """Write the settings for a shell, for our own eyes alone: there are secrets in them."""
    kept = {name: value for name, value in environment.items() if name not in ("PATH", "HOME")}
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in kept.items())
    file.touch(mode=0o600)
    file.write_text(text)


def _empty(root: Path) -> None:
    """Empty the demo's folder; refuse one that the demo has not made."""
    if root.exists() and any(root.iterdir()) and not (root / _MARK).exists():
        raise errors.NotOurs("the folder for the demo is not empty and not the demo's", folder=root)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / _MARK).touch()


def free_port(wanted: int) -> int:
    """Return the port if nobody listens on it, or any free one."""
    try:
        return embedded_s3.free_port(wanted)
    except errors.StorageUnavailable:
        return embedded_s3.free_port(0)


def environment(made: Stage, s3: embedded_s3.EmbeddedS3) -> dict[str, str]:
    """Return the settings of the demo's provisioner, and of our own environment only PATH."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(made.root),
        "PROV_DPP_API_URL": made.portal_url,
        "WEBHOOK_SECRET": SECRET,
        "PROV_TEMPLATE_OUTPUT_PATH": str(made.products),
        "PROV_DUCKDB_EXTENSION_DIRECTORY": str(made.products / ".provisioner" / "duckdb"),
        "PROV_DATABASE_URL": f"sqlite:///{made.root}/provisioner.db",
        "PROV_ROTATION_GRACE_SECONDS": "3600",
        "PROV_ADMIN_TOKEN": made.admin_token,
        "PROV_LOG_FORMAT": "json",
        "PROV_ISSUER": "iam",
        "PROV_PORT": str(urlsplit(made.provisioner_url).port),
        "S3_ENDPOINT": s3.endpoint,
        "S3_ACCESS_KEY": s3.access_key,
        "S3_SECRET_KEY": s3.secret_key,
        "S3_BUCKET": BUCKET,
    }


@contextlib.contextmanager
def serving(made: Stage, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `provisioner serve` until the block ends."""
    command = [sys.executable, "-m", "provisioner", "serve"]
    with made.log.open("ab") as log:
        process = subprocess.Popen(
            command, cwd=made.root, env=dict(environ), stdout=log, stderr=log
        )
    try:
        _wait_ready(made, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(made: Stage, process: subprocess.Popen[bytes]) -> None:
    """Wait until the provisioner says that it is ready, or has ended."""

    def ready() -> bool:
        if process.poll() is not None:
            tail = made.log.read_text(errors="replace")[-2000:]
            raise errors.Conflict("the provisioner ended at its start", log=tail)
        try:
            return httpx.get(f"{made.provisioner_url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(ready, "the provisioner to be ready", seconds=_START_SECONDS)


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 30.0) -> float:
    """Wait until a condition holds and return how many seconds it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise errors.Conflict("waited in vain", what=what, seconds=seconds)
        time.sleep(0.02)
    return time.monotonic() - started
