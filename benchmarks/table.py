"""Show figures beside their bars, as Markdown that can be pasted, and as JSON."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure; without a bar it is there to compare with."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Tell whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar


Columns = Mapping[str, Sequence[Row]]
"""What was measured of each thing that is compared: a store, a number of products."""


def median(values: Sequence[float]) -> float:
    """Return the middle of several figures."""
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    """Return what 99 of 100 stay below."""
    return share(values, 99)


def share(values: Sequence[float], percent: int) -> float:
    """Return what so many of a hundred stay below."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def figures(columns: Columns) -> str:
    """Write one line a figure, a column for each thing that is compared, and the notes below."""
    by_name = {name: {row.what: row for row in rows} for name, rows in columns.items()}
    first = {row.what: row for rows in columns.values() for row in rows}
    lines = [
        [what.strip(), _bar(row), *(_cell(rows.get(what)) for rows in by_name.values())]
        for what, row in first.items()
    ]
    notes = [
        f"- {what.strip()} ({name}): {rows[what].note}"
        for what in first
        for name, rows in by_name.items()
        if what in rows and rows[what].note
    ]
    return "\n".join([grid(["what", "bar", *columns], lines), "", *notes])


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def plain(columns: Columns) -> list[dict[str, Any]]:
    """Return every figure as JSON holds it."""
    return [
        {"of": name, **dataclasses.asdict(row), "met": row.met}
        for name, rows in columns.items()
        for row in rows
    ]


def _bar(row: Row) -> str:
    if row.bar is None:
        return ""
    return f"{'>=' if row.at_least else '<='} {figure(row.bar)} {row.unit}"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    missed = " **missed**" if row.met is False else ""
    return f"{figure(row.value)} {row.unit}{missed}"


def figure(value: float) -> str:
    """Write as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
