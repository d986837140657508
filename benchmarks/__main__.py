"""Measure and print beside the bars: `python -m benchmarks [--quick] [--rotation]`."""

from __future__ import annotations

import argparse
import os
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
    asked = parser.parse_args()
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
