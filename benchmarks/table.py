"""Show figures beside their bars."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table


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


def median(values: Sequence[float]) -> float:
    """Return the middle of several figures."""
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    """Return what 99 of 100 stay below."""
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]


def show(out: Console, rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAVY)
    for name, justify in (("what", "left"), ("measured", "right"), ("bar", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("")
    table.add_column("note", overflow="fold")
    for row in rows:
        sign = ">=" if row.at_least else "<="
        bar = "" if row.bar is None else f"{sign} {_figure(row.bar)} {row.unit}"
        verdict = {None: "", True: "[green]ok[/]", False: "[red]missed[/]"}[row.met]
        table.add_row(row.what, f"{_figure(row.value)} {row.unit}", bar, verdict, row.note)
    out.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
