"""Run a Ceph node of one mon, one osd in memory and one RGW on the loopback, without systemd.

Everything lies in one directory; nothing is replicated, and nothing survives. RGW sends what it has
at once (`tcp_nodelay`), without which an answer on a kept connection takes 40 ms.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx

from provisioner import model

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph-common")
PROGRAMS = (
    "radosgw",
    "radosgw-admin",
    "ceph-mon",
    "ceph-osd",
    "ceph",
    "ceph-authtool",
    "monmaptool",
)
_CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
ms bind msgr1 = false
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 0
mon max pg per osd = 1000
keyring = {root}/keyring
run dir = {root}
admin socket = {root}/$name.asok
pid file = {root}/$name.pid
log file = {root}/$name.log
[mon]
mon data = {root}/mon
mon initial members = a
[osd]
osd data = {root}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd memory target = 939524096
osd class load list = *
osd class default list = *
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{s3_port} tcp_nodelay=1
rgw enable apis = s3, iam, sts, admin
rgw thread pool size = 32
"""
_KEYS = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"),
    "client.rgw.a": ("mon", "allow rwx", "osd", "allow rwx", "mgr", "allow rw"),
}
_CAPS = "users=*;buckets=*;user-policy=*;roles=*;metadata=*"


class Node:
    """Start a node in a directory, and stop it by its process ids at the end."""

    def __init__(self, root: Path, *, s3_port: int, mon_port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{s3_port}"
        self._root = root
        self._mon = f"[v2:127.0.0.1:{mon_port}]"
        self._fsid = str(uuid.uuid4())
        self._conf = root / "ceph.conf"
        self._conf.write_text(
            _CONF.format(root=root, fsid=self._fsid, s3_port=s3_port, mon_port=mon_port)
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Node:
        try:
            self._make_keys()
            self._start_mon()
            self._start_osd()
            self._daemon("radosgw", "-n", "client.rgw.a")
            _until(self._answers, seconds=120, what="RGW")
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

    def create_admin(self, key: model.AccessKey) -> None:
        """Make the admin; not as a system user, whose CreateBucket answers with another body."""
        self._run(
            *("radosgw-admin", "-c", self._conf, "-n", "client.rgw.a", "user", "create"),
            *("--uid=admin", "--display-name=admin", f"--caps={_CAPS}"),
            *(f"--access-key={key.id}", f"--secret-key={key.secret}"),
        )

    def _make_keys(self) -> None:
        ring = self._root / "keyring"
        ring.touch()
        for name, pairs in _KEYS.items():
            caps = [
                part for at in range(0, len(pairs), 2) for part in ("--cap", *pairs[at : at + 2])
            ]
            self._run("ceph-authtool", ring, "--gen-key", "-n", name, *caps)

    def _start_mon(self) -> None:
        monmap = self._root / "monmap"
        self._run("monmaptool", "--create", "--addv", "a", self._mon, "--fsid", self._fsid, monmap)
        (self._root / "mon").mkdir()
        self._run(
            *("ceph-mon", "-c", self._conf, "--mkfs", "-i", "a"),
            *("--monmap", monmap, "--keyring", self._root / "keyring"),
        )
        self._daemon("ceph-mon", "-i", "a", "--public-addr", "127.0.0.1")

    def _start_osd(self) -> None:
        (self._root / "osd").mkdir()
        identity = str(uuid.uuid4())
        _until(lambda: self._ceph("osd", "new", identity) is not None, seconds=60, what="mon")
        self._run(
            *("ceph-osd", "-c", self._conf, "-i", "0", "--mkfs"),
            *("--osd-uuid", identity, "--no-mon-config"),
        )
        self._daemon("ceph-osd", "-i", "0")

    def _ceph(self, *arguments: str) -> str | None:
        """Ask the mon; None where it does not answer yet."""
        command = ["ceph", "-c", str(self._conf), "--connect-timeout", "5", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout if done.returncode == 0 else None

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")

    def _daemon(self, program: str, *arguments: str) -> None:
        with (self._root / f"{program}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [program, "-c", str(self._conf), *arguments, "-f"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _answers(self) -> bool:
        for process in self._processes:
            if process.poll() is not None:
                raise RuntimeError(f"a Ceph daemon ended with {process.returncode}")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.endpoint).status_code == 200
        return False

    def _stop(self) -> None:
        """Kill rather than end: the whole node lives in memory and takes seconds to say goodbye."""
        for process in reversed(self._processes):
            process.kill()
        for process in self._processes:
            process.wait(timeout=20)


def _until(holds: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for a process to come up."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come up in {seconds} s")
        time.sleep(0.1)
