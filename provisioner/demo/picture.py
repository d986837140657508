"""Lay out what was tried as a table, and draw it as an SVG.

The picture stands alone: it names no font and no page elsewhere.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.demo import consumer

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 88
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


def tried(calls: list[tuple[str, consumer.Call]]) -> Table:
    """Lay out calls, each with its moment, as a table."""
    from rich import box
    from rich.table import Table

    table = Table(title="What was tried", box=box.SIMPLE_HEAVY, title_justify="left")
    for column in ("when", "who", "call", "answer"):
        table.add_column(column)
    for when, call in calls:
        verdict = "[green]allowed[/]" if call.answer < 300 else "[red]denied[/]"
        answer = f"{call.answer} {verdict}" + ("" if call.as_expected else " WRONG")
        table.add_row(when, call.who, call.what, answer)
    return table


def save(file: Path, table: Table, *, title: str) -> None:
    """Write the table as an SVG; the same table gives the same bytes."""
    from rich.console import Console

    out = Console(
        record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    out.print(table)
    svg = out.export_svg(title=title, code_format=_format(), unique_id="tried")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


def _format() -> str:
    """Return rich's frame without its fonts from a CDN and without its comment."""
    from rich import _export_format

    text = _export_format.CONSOLE_SVG_FORMAT
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"@font-face \{\{.*?\}\}", "", text, flags=re.DOTALL)
    return re.sub(r"font-family: [^;]+;", f"font-family: {_FONT};", text)
