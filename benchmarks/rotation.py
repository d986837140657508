"""Measure keys on every S3 engine that is installed here: one issue, one rotation, no failed call.

The service's own parts run in this process, beside two threads of a team that reads `.env` before
every call and uses the key in it.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.table import Row, median, p99
from provisioner import model
from tests import ceph_node, engines, minio_server, real_world, watching

_ADMIN = model.AccessKey("AKIABENCHMARKADMIN00", "b" * 40)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured, on each engine."""

    issues: int
    rotations: int


FULL = Size(issues=10, rotations=50)
QUICK = Size(issues=2, rotations=3)


@contextlib.contextmanager
def rgw(folder: Path) -> Iterator[engines.Engine]:
    """Run a Ceph gateway."""
    ports = {"s3_port": engines.free_port(), "mon_port": engines.free_port()}
    with ceph_node.Node(folder, **ports) as node:
        node.create_admin(_ADMIN)
        yield engines.Rgw(endpoint=node.endpoint, admin=_ADMIN)


@contextlib.contextmanager
def minio(folder: Path) -> Iterator[engines.Engine]:
    """Run a MinIO."""
    program = minio_server.find() or ""
    with minio_server.Server(program, folder, port=engines.free_port(), admin=_ADMIN) as server:
        yield engines.Minio(endpoint=server.endpoint, admin=_ADMIN)


_ENGINES: dict[str, Callable[[Path], contextlib.AbstractContextManager[engines.Engine]]] = {
    "Ceph RGW": rgw,
    "MinIO": minio,
}


def installed() -> list[str]:
    """Name the engines that can be started here."""
    ceph = all(map(shutil.which, ceph_node.PROGRAMS))
    return [
        name for name, there in zip(_ENGINES, (ceph, minio_server.find()), strict=True) if there
    ]


def measure(root: Path, size: Size) -> list[Row]:
    """Measure on each engine in turn."""
    rows = []
    for number, name in enumerate(installed()):
        folder = root / str(number)
        folder.mkdir()
        with (
            _ENGINES[name](folder) as engine,
            real_world.world(root / f"w{number}", engine) as world,
        ):
            rows += _measure(name, world, size)
    return rows


@dataclass
class _Taken:
    """What several runs took."""

    seconds: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    def row(self, what: str, note: str) -> Row:
        return Row(
            what=f"{what}, p50",
            value=median(self.seconds) * 1000,
            unit="ms",
            note=f"{median(self.calls):.0f} calls to the engine; p99 {p99(self.seconds) * 1000:.0f}"
            f" ms; {note}",
        )


def _measure(name: str, world: real_world.RealWorld, size: Size) -> list[Row]:
    issues, rotations, numbers = _Taken(), _Taken(), itertools.count(1)

    def create() -> model.Key:
        return model.Key.product(world.state.create_product(f"product-{next(numbers)}"))

    world.settle(create())  # the first one loads libraries and makes the bucket
    for _ in range(size.issues):
        key = create()
        _time(issues, lambda key=key: world.reconcile(key))  # type: ignore[misc]
    env = world.env(world.record(key).namespace)
    with watching.Watch(lambda: env, world.engine) as watch:
        watch.wait(calls=10)
        for _ in range(size.rotations):
            world.parts.store.asks.ask([key], model.Ask.ROTATE)
            _time(rotations, lambda: world.reconcile(key))
            watch.wait(calls=6)
    idle = f"{len(issues.seconds)} products, one after another"
    beside = f"{size.rotations} times, {watch.calls} calls of a team, {len(watch.failures)} failed"
    return [
        issues.row(f"{name}: one product, with its first key", idle),
        rotations.row(f"{name}: one rotation", beside),
    ]


def _time(taken: _Taken, work: Callable[[], model.Outcome]) -> None:
    with _counting() as calls:
        started = time.perf_counter()
        outcome = work()
        taken.seconds.append(time.perf_counter() - started)
    if outcome.status != "done":
        raise RuntimeError(outcome.message)
    taken.calls.append(next(calls))


@contextlib.contextmanager
def _counting() -> Iterator[Iterator[int]]:
    """Count what is sent by botocore, which all calls to engines go through, but for the team's."""
    from botocore.httpsession import URLLib3Session

    send: Any = URLLib3Session.send
    counted, here = itertools.count(), threading.current_thread()

    def counting(session: Any, request: Any) -> Any:
        thread = threading.current_thread()
        if thread is here or thread.name.startswith("listing"):
            next(counted)
        return send(session, request)

    URLLib3Session.send = counting  # type: ignore[method-assign, assignment]
    try:
        yield counted
    finally:
        URLLib3Session.send = send  # type: ignore[method-assign]
