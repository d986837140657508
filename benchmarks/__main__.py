"""Measure and print beside the bars: `python -m benchmarks [--quick] [--rotation]`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks import measures, table, world
from provisioner import tables

_NOISE = (
    "Machines are noisy: portal, engine, senders and service share these {cores} cores. Compare"
    " runs on one quiet machine, medians and ratios before single figures."
)


def measure(root: Path, size: measures.Size) -> list[table.Row]:
    """Measure in an empty folder."""
    rows: list[table.Row] = []
    with world.world(root) as here:
        started = measures.start(here, size)
        with here.serving() as process:
            rows += measures.creates(here, size)
            rows += measures.acknowledgements(here, process, size)
            rows += measures.revocation(here, size)
        like = next(iter(here.players.state.products))
        here.know([f"resynced-{number}" for number in range(size.resynced)], like)
        with here.serving():
            rows += measures.resync(here, size)
        missing = size.known - len(here.players.state.products)
        here.know([f"known-{number}" for number in range(missing)], like)
        with here.serving() as process:
            here.resync()
            rows += measures.memory(here, process)
    return rows + started


def _torture(asked: argparse.Namespace) -> int:
    """Kill, and say what came of it; here a failure is a failure."""
    from benchmarks import torture  # it needs what the tests need

    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        well = torture.measure(
            Path(folder),
            asked.torture,
            asked.seed,
            engine=asked.engine,
            replicas=asked.replicas,
            say=print,
        )
    return 0 if well else 1


def main() -> None:
    """Measure and print; a missed bar is no failure of the command."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="try that it runs; figures mean little"
    )
    parser.add_argument(
        "--rotation",
        action="store_true",
        help="measure keys instead, on every real S3 engine that is installed",
    )
    parser.add_argument(
        "--torture", type=int, metavar="KILLS", help="kill it so often under load instead"
    )
    parser.add_argument("--seed", type=int, default=1, help="what the torture draws from")
    parser.add_argument(
        "--replicas", type=int, default=1, help="processes to torture; several on PostgreSQL"
    )
    parser.add_argument("--engine", default="moto", help="moto, rgw or minio: what to torture on")
    asked = parser.parse_args()
    if asked.torture:
        sys.exit(_torture(asked))
    out: Console = tables.console()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        if asked.rotation:
            from benchmarks import rotation  # its engines are those of the tests

            rows = rotation.measure(Path(folder), rotation.QUICK if asked.quick else rotation.FULL)
        else:
            rows = measure(Path(folder), measures.QUICK if asked.quick else measures.FULL)
    table.show(out, rows)
    out.print(_NOISE.format(cores=os.cpu_count()))
    out.print(f"Took {time.monotonic() - started:.0f} seconds.")


if __name__ == "__main__":
    main()
