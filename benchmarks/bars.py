"""Measure all that has a bar, or how it grows with the number of products, on one store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import known, measures, scale, starting, world
from benchmarks.table import Row

_FEW = 10


def measure(root: Path, size: measures.Size, store: str) -> list[Row]:
    """Measure in an empty folder."""
    rows: list[Row] = []
    with world.world(root, store=store) as here:
        started = starting.start(here, size.starts)
        with here.serving() as process:
            product = _make(here, _FEW)
            few = scale.event(here, product, size.events)
            rows += measures.creates(here, size)
            rows += measures.acknowledgements(here, process, size)
            rows += measures.revocation(here, size)
        _know(here, size.known, product)
        with here.serving() as process:
            rows += scale.resync(here)
            rows += scale.memory(here, process)
            rows += scale.compared(few, scale.event(here, product, size.events))
    return rows + started


def grow(
    root: Path, counts: Sequence[int], size: measures.Size, store: str
) -> dict[str, list[Row]]:
    """Measure with so many products known, one count after another, in an empty folder."""
    columns: dict[str, list[Row]] = {}
    with world.world(root, store=store) as here:
        with here.serving():
            product = _make(here, 1)
        for count in sorted(counts):
            _know(here, count, product)
            rows = [starting.answering(here, size.starts)]
            with here.serving() as process:
                rows += scale.resync(here)
                rows += scale.memory(here, process)
                rows.append(scale.event(here, product, size.events))
                create, _ = measures.creates(here, size, prefix=f"with-{count}")
                rows.append(create)
            columns[f"{count:,}"] = rows
    return columns


def _make(here: world.World, count: int) -> str:
    """Have the service make products; return one of them, once all are in order."""
    products = [here.create(f"made-{number}") for number in range(count)]
    for number in range(count):
        here.wait_for(here.folder(f"made-{number}") / ".env")
    here.wait_idle()
    return products[0]


def _know(here: world.World, count: int, like: str) -> None:
    """Have so many products known in all, the others as copies of one."""
    missing = count - len(here.players.state.products)
    known.know(here, [f"known-{count}-{number}" for number in range(missing)], like)
