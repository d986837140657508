"""Measure and print Markdown, figures beside their bars: `python -m benchmarks [--help]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import bars, measures, stores, table

_NOISE = (
    "Machines are noisy: portal, engine, senders and service share these {cores} cores. Compare"
    " runs on one quiet machine, medians and ratios before single figures."
)


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
    asked = _parser().parse_args()
    if asked.torture:
        sys.exit(_torture(asked))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        results = _measure(Path(folder), asked)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2) + "\n")
    print(_NOISE.format(cores=os.cpu_count()))
    print(f"Took {time.monotonic() - started:.0f} seconds.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="try that it runs; figures mean little")
    add("--store", choices=[*stores.NAMES, "both"], default="sqlite", help="where state is kept")
    add("--products", type=_counts, metavar="10,100,…", help="how figures grow, instead of bars")
    add("--rotation", action="store_true", help="keys instead, on every real engine installed")
    add("--workspace", action="store_true", help="what people wait for in a workspace instead")
    add("--receiver", metavar="URL", help="another receiver on this machine instead")
    add("--secret", default=os.environ.get("WEBHOOK_SECRET", ""), help="what signs for it")
    add("--torture", type=int, metavar="KILLS", help="kill it so often under load instead")
    add("--seed", type=int, default=1, help="what the torture draws from")
    add("--replicas", type=int, default=1, help="processes to torture; several on PostgreSQL")
    add("--engine", default="moto", help="moto, rgw or minio: what to torture on")
    add("--json", type=Path, metavar="FILE", help="write every figure there as well")
    return parser


def _counts(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _measure(root: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure what is asked for, print each table when it is there, and return all figures."""
    if asked.receiver:
        from benchmarks import receiver

        lines = receiver.measure(asked.receiver, asked.secret, receiver.count(quick=asked.quick))
        print(receiver.show(lines))
        return {"receiver": receiver.plain(lines)}
    if asked.rotation:
        from benchmarks import rotation  # its engines are those of the tests

        size = rotation.QUICK if asked.quick else rotation.FULL
        return _shown("keys", {"measured": rotation.measure(root, size)})
    if asked.workspace:
        from benchmarks import workspace

        wanted = workspace.QUICK if asked.quick else workspace.FULL
        return _shown("workspace", {"measured": workspace.measure(root, wanted)})
    return _on_stores(root, asked)


def _on_stores(root: Path, asked: argparse.Namespace) -> dict[str, Any]:
    size = measures.QUICK if asked.quick else measures.FULL
    kinds = list(stores.NAMES) if asked.store == "both" else [asked.store]
    folders = {kind: root / kind for kind in kinds}
    for folder in folders.values():
        folder.mkdir()
    if asked.products:
        results: dict[str, Any] = {}
        for kind, folder in folders.items():
            print(f"{stores.NAMES[kind]}, by products known:\n")
            results |= _shown(kind, bars.grow(folder, asked.products, size, kind))
        return results
    columns = {stores.NAMES[kind]: bars.measure(at, size, kind) for kind, at in folders.items()}
    return _shown("bars", columns)


def _shown(name: str, columns: table.Columns) -> dict[str, Any]:
    print(table.figures(columns), flush=True)
    print()
    return {name: table.plain(columns)}


if __name__ == "__main__":
    main()
