"""Kill the service hundreds of times under load, and say what was lost: nothing, it should be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import rotation
from provisioner import model
from provisioner.demo import embedded_s3
from tests import database_server, engines
from tests.torture import ordeal


@contextlib.contextmanager
def _moto(folder: Path) -> Iterator[engines.Engine]:
    with embedded_s3.EmbeddedS3() as s3:
        admin = model.AccessKey(s3.access_key, s3.secret_key)
        yield engines.Engine(endpoint=s3.endpoint, admin=admin)


ENGINES: dict[str, Callable[[Path], contextlib.AbstractContextManager[engines.Engine]]] = {
    "moto": _moto,
    "rgw": rotation.rgw,
    "minio": rotation.minio,
}


def measure(
    root: Path, kills: int, seed: int, *, engine: str, replicas: int, say: Callable[[str], None]
) -> bool:
    """Run one ordeal; tell whether all was well."""
    with contextlib.ExitStack() as stack:
        folders = root / "engine", root / "beside"
        for folder in folders:
            folder.mkdir()
        tried, beside = (stack.enter_context(ENGINES[engine](folder)) for folder in folders)
        url = ""
        if replicas > 1:
            server = stack.enter_context(database_server.running())
            url = server.url(server.create())
        plan = ordeal.Plan(
            kills=kills,
            seed=seed,
            database_url=url,
            replicas=replicas,
            freezes=max(1, kills // 20) if replicas > 1 else 0,
        )
        result = ordeal.run(plan, root / "ordeal", tried, beside)
    say(f"{engine}, {replicas} processes: {result}")
    for each in result.wrong:
        say(f"wrong: {each}")
    return not result.wrong
