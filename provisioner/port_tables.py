"""Show the ports of a product to a person: what it publishes, reads, and could read."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from provisioner import model, tables
from provisioner.domain import freshness

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from provisioner import portviews

_COLUMNS = ("state", "rows", "before", "published", "columns", "dropped", "looked at")


def show(out: Console, found: portviews.PortsOfProduct) -> None:
    """Print a table each, where there is anything to say."""
    published = tables.table_of("Output ports", "port", *_COLUMNS)
    for seen in found.outputs:
        _add(published, seen.port_namespace, seen)
    read = tables.table_of("Inputs", "read as upstream.", *_COLUMNS)
    for name, seen in found.inputs:
        _add(read, name, seen)
    ended = tables.table_of("Access that ended", "was read as", "port", "since", "ended", "why")
    for each in found.ended:
        port = f"{each.producer_namespace}/{each.port_namespace}"
        days = (_when(each.since), _when(each.ended_at))
        tables.row(ended, each.name or "-", port, *days, each.why)
    for table in (published, read, ended):
        if table.row_count:
            out.print(table)


def _add(table: Table, name: str, seen: model.SeenPort) -> None:
    contract = seen.contract
    said = f"{seen.state}: {seen.why}" if seen.why else str(seen.state)
    facts = ("-", "-", "-", "-", "-")
    if contract is not None:
        before = "-" if seen.rows_before is None else str(seen.rows_before)
        columns = (str(len(contract.columns)), str(contract.dropped))
        facts = (str(contract.rows), before, _when(contract.published_at), *columns)
    style = "yellow" if seen.state in freshness.FINDINGS else None
    tables.row(table, name, said, *facts, _when(seen.read_at), style=style)


def _when(moment: datetime | None) -> str:
    return tables.when(moment) if moment else "-"
