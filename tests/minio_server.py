"""Run a MinIO of one drive on the loopback; nothing survives.

Its users have released no binaries for some time, so it is built from source by Go.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

import httpx

from provisioner import model

MODULE = "github.com/minio/minio@latest"
_GO = "/usr/local/go/bin"


def find() -> str | None:
    """Return the program, from the path or from where Go installs; None if there is none."""
    found = shutil.which("minio")
    if found:
        return found
    folders = [os.environ.get("GOBIN"), *_go_folders()]
    places = [Path(folder, "minio") for folder in folders if folder]
    return next((str(each) for each in places if os.access(each, os.X_OK)), None)


def _go_folders() -> list[str]:
    go = shutil.which("go") or shutil.which("go", path=_GO)
    if go is None:
        return []
    asked = subprocess.run(
        [go, "env", "GOBIN", "GOPATH"], capture_output=True, text=True, timeout=20, check=False
    )
    gobin, _, gopath = asked.stdout.strip("\n").partition("\n")
    return [gobin, *(f"{each}/bin" for each in gopath.split(os.pathsep) if each)]


class Server:
    """Start a server in a directory, and stop it by its process id at the end."""

    def __init__(self, program: str, root: Path, *, port: int, admin: model.AccessKey) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._command = [program, "server", "--quiet", "--address", f"127.0.0.1:{port}"]
        self._root = root
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "MINIO_ROOT_USER": admin.id,
            "MINIO_ROOT_PASSWORD": admin.secret,
            "MINIO_BROWSER": "off",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        with (self._root / "minio.out").open("wb") as out:
            self._process = subprocess.Popen(
                [*self._command, str(self._root / "data")],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it answers for its drives, and knows users and policies."""
        deadline = time.monotonic() + 60
        while not self._answers():
            if process.poll() is not None:
                raise RuntimeError(f"MinIO ended with {process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError("MinIO did not come up in 60 s")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.endpoint}/minio/health/cluster").status_code == 200
        return False

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)
