"""Show plans, products and outcomes to a person, as rich tables.

Names and texts from the portal are printed as plain text: neither markup nor a terminal's escape
sequences in them take effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from provisioner import errors, model

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from provisioner import reconciler


_PIPED_WIDTH = 120


def console() -> Console:
    """Open the console on standard output; where nobody looks, lines have room."""
    from rich.console import Console

    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def progress(
    out: Console,
) -> Callable[[Iterable[model.Key], str, int], Iterator[model.Key]]:
    """Return what passes keys through and shows how far it is, where a person looks."""

    def pass_through(keys: Iterable[model.Key], title: str, total: int) -> Iterator[model.Key]:
        if not out.is_terminal:
            yield from keys
            return
        from rich.progress import track

        yield from track(keys, description=title, total=total, console=out, transient=True)

    return pass_through


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(errors.printable(title)),
        box=box.SIMPLE_HEAVY,
        title_justify="left",
        title_style="bold",
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _row(table: Table, *cells: str, style: str | None = None) -> None:
    from rich.text import Text

    table.add_row(*(Text(errors.printable(cell)) for cell in cells), style=style)


def show_plan(out: Console, previews: Sequence[reconciler.Preview]) -> None:
    """Print what would be made, who would gain or lose which access, and what stands in the way."""
    made = _table("What would be done", "product", "step", "action", "on")
    access = _table("Who would gain or lose access", "", "consumer", "may", "where", "until")
    blocked = _table("What stands in the way", "product", "condition", "why")
    for preview in previews:
        name = preview.record.namespace or str(preview.record.key)
        for action in preview.actions:
            _row(made, name, action.step, action.verb, action.subject)
        for change in preview.access:
            until = change.grant.valid_until
            where = f"s3://{change.location.bucket}/{change.location.prefix}"
            sign, style = ("+", "green") if change.gains else ("-", "red")
            day = until.isoformat() if until else "for ever"
            _row(access, sign, name, change.access.value, where, day, style=style)
        for condition in preview.conditions:
            _row(blocked, name, condition.type, condition.message, style="yellow")
    for table in (made, access, blocked):
        if table.row_count:
            out.print(table)
    idle = sum(1 for preview in previews if not preview.actions)
    out.print(f"{len(previews)} products read, {idle} in order. Nothing was touched.")


def show_status(out: Console, records: Iterable[model.Record], now: datetime) -> None:
    """Print one line a product."""
    table = _table("Data products", "namespace", "phase", "key", "age", "grants", "conditions")
    for record in records:
        held = record.credentials
        conditions = ", ".join(condition.type for condition in record.conditions)
        _row(
            table,
            record.namespace,
            "released" if record.released_at else record.phase.value,
            held.current.id if held.current else "-",
            _age(held.issued_at, now),
            str(len(record.grants)),
            conditions or "-",
            style="yellow" if conditions else None,
        )
    out.print(table)


def show_product(out: Console, record: model.Record, now: datetime) -> None:
    """Print all about one product, never a secret."""
    held = record.credentials
    facts = _table(record.namespace, "", "")
    _row(facts, "id", record.key.id)
    _row(facts, "name", record.name)
    _row(facts, "phase", "released" if record.released_at else record.phase.value)
    _row(facts, "principal", held.principal or "-")
    _row(facts, "key", f"{held.current.id if held.current else '-'} ({_age(held.issued_at, now)})")
    for retiring in held.retiring:
        until = retiring.delete_after.isoformat() if retiring.delete_after else "published next"
        _row(facts, "retiring", f"{retiring.key_id} until {until}")
    for grant in record.grants:
        for place in grant.locations:
            _row(facts, f"may {grant.access}", f"s3://{place.bucket}/{place.prefix}")
    for condition in record.conditions:
        _row(facts, condition.type, f"{condition.message} (since {condition.since:%Y-%m-%d %H:%M})")
    _row(facts, "looks again", record.next_at.isoformat() if record.next_at else "on any change")
    out.print(facts)


def show_outcomes(out: Console, outcomes: Sequence[model.Outcome]) -> None:
    """Print how each reconcile ended."""
    table = _table("Reconciled", "product", "ended", "actions", "why")
    for outcome in outcomes:
        actions = ", ".join(outcome.actions) or "-"
        _row(table, outcome.key.id, outcome.status, actions, outcome.message or "-")
    out.print(table)


def _age(since: datetime | None, now: datetime | None = None) -> str:
    """Say how long ago, in the largest unit that fits."""
    if since is None:
        return "-"
    seconds = int(((now or datetime.now(UTC)) - since).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"
