"""Show plans, products and outcomes to a person, as rich tables.

Names and texts from the portal are printed as plain text: neither markup nor a terminal's escape
sequences in them take effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from provisioner import errors, model

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from provisioner.domain import findings
    from provisioner.loop import observer


_PIPED_WIDTH = 120
_PASSING = frozenset(each.__name__ for each in errors.TemporaryError.__subclasses__())
"""Conditions that nobody need do anything about here: they are retried."""


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


def table_of(title: str, *columns: str) -> Table:
    """Begin a table whose texts are plain."""
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


def row(table: Table, *cells: str, style: str | None = None) -> None:
    """Add a row of texts in which nothing takes effect."""
    from rich.text import Text

    table.add_row(*(Text(errors.printable(cell)) for cell in cells), style=style)


def show_plan(out: Console, previews: Sequence[observer.Preview]) -> None:
    """Print what would be made, who would gain or lose which access, and what stands in the way."""
    made = table_of("What would be done", "for", "step", "action", "on")
    access = table_of("Who would gain or lose access", "", "consumer", "may", "where", "until")
    blocked = table_of("What stands in the way", "for", "condition", "why")
    for preview in previews:
        name = _name(preview.record)
        for action in preview.actions:
            row(made, name, action.step, action.verb, action.subject)
        for change in preview.access:
            until = change.grant.valid_until
            where = f"s3://{change.location.bucket}/{change.location.prefix}"
            sign, style = ("+", "green") if change.gains else ("-", "red")
            day = until.isoformat() if until else "for ever"
            row(access, sign, name, change.access.value, where, day, style=style)
        for condition in preview.conditions:
            row(blocked, name, condition.type, condition.message, style="yellow")
    for table in (made, access, blocked):
        if table.row_count:
            out.print(table)
    out.print(_count(previews))


def _name(record: model.Record) -> str:
    """Name what is planned; an exploration may have a product's name."""
    if not record.namespace:
        return str(record.key)
    return record.namespace if record.key.produces else f"{record.namespace} (exploration)"


def _count(previews: Sequence[observer.Preview]) -> str:
    """Say how many products were read, and how they are."""
    changing = sum(1 for each in previews if each.actions)
    blocked = sum(1 for each in previews if each.conditions)
    idle = sum(1 for each in previews if not (each.actions or each.conditions))
    read = "1 product" if len(previews) == 1 else f"{len(previews)} products"
    held = f", {blocked} with something in the way" if blocked else ""
    return f"{read} read: {changing} to change, {idle} in order{held}. Nothing was touched."


def show_status(out: Console, records: Iterable[model.Record], now: datetime) -> None:
    """Print one line a product."""
    table = table_of(
        "Data products", "namespace", "kind", "phase", "key", "age", "grants", "conditions"
    )
    for record in records:
        held = record.credentials
        conditions = ", ".join(condition.type for condition in record.conditions)
        row(
            table,
            record.namespace,
            record.key.kind.value,
            _phase(record),
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
    facts = table_of(record.namespace, "", "")
    facts.show_header = False
    row(facts, "id", record.key.id)
    row(facts, "kind", record.key.kind.value)
    row(facts, "name", record.name)
    row(facts, "phase", _phase(record))
    if record.former:
        row(facts, "earlier", ", ".join(each.namespace for each in record.former))
    row(facts, "principal", held.principal or "-")
    key = f"{held.current.id} ({_age(held.issued_at, now)} old)" if held.current else "-"
    row(facts, "key", key)
    for retiring in held.retiring:
        after = retiring.delete_after
        until = when(after) if after else "its successor is published"
        row(facts, "retiring", f"{retiring.key_id} until {until}")
    for grant in record.grants:
        for place in grant.locations:
            day = f" until {grant.valid_until}" if grant.valid_until else ""
            row(facts, f"may {grant.access}", f"s3://{place.bucket}/{place.prefix}{day}")
    _add_template(facts, record.workspace)
    for condition in record.conditions:
        row(facts, condition.type, f"{condition.message} (since {when(condition.since)})")
    row(facts, "looks again", _looks_again(record))
    out.print(facts)


def _add_template(facts: Table, state: model.WorkspaceState) -> None:
    """Say which version of the template a workspace is at, and what the last ones did."""
    if state.template_digest:
        short = state.template_digest[:12]
        row(facts, "template", f"{state.template_name} ({short})" if state.template_name else short)
    for path in state.conflicts:
        row(facts, "conflict", f"{path}: the newer version is {path}.template-new")
    for number, upgrade in enumerate(state.upgrades):
        counted = Counter(change.value for _, change in upgrade.files)
        counts = ", ".join(f"{count} {change}" for change, count in sorted(counted.items()))
        said = f"{when(upgrade.at)}: {upgrade.before} to {upgrade.after}: "
        row(facts, "upgraded", said + (counts or "no file changed"))
        if number == 0:
            for path, change in upgrade.files:
                row(facts, f"  {change}", path)


def show_standings(out: Console, standings: Iterable[tuple[model.Record, str]]) -> None:
    """Print which workspace is at which version of the template, and how many at each."""
    from rich.text import Text

    table = table_of(
        "Workspaces and the template", "namespace", "template", "", "since", "conflicts"
    )
    counted: Counter[str] = Counter()
    for record, standing in standings:
        state = record.workspace
        short = state.template_digest[:12] or "-"
        version = f"{state.template_name} ({short})" if state.template_name else short
        counted[version] += 1
        row(
            table,
            record.namespace,
            version,
            standing,
            when(state.brought_at) if state.brought_at else "-",
            ", ".join(state.conflicts) or "-",
            style=None if standing == "current" else "yellow",
        )
    out.print(table)
    for version, count in counted.most_common():
        out.print(Text(f"{count} at {errors.printable(version)}"))


def show_changes(
    out: Console, title: str, changes: Iterable[tuple[str, str, Mapping[str, str]]]
) -> None:
    """Print what became, or would become, of each file: (product, version, change by path)."""
    table = table_of(title, "product", "file", "")
    for product, version, files in changes:
        row(table, product, f"to {version}" if files else f"at {version}: no file changes", "")
        for path, change in files.items():
            row(table, "", path, change, style="yellow" if change == "conflict" else None)
    out.print(table)


def _looks_again(record: model.Record) -> str:
    """Say when it is looked at next; what passes by itself is tried again long before that."""
    if any(each.type in _PASSING for each in record.conditions):
        return "again and again, ever more slowly, until it works"
    return when(record.next_at) if record.next_at else "on any change"


def show_outcomes(
    out: Console, outcomes: Sequence[model.Outcome], namespaces: Mapping[model.Key, str]
) -> None:
    """Print how each reconcile ended, or that the running service has it in its queue."""
    table = table_of("Reconciled", "product", "ended", "actions", "why")
    queued = 0
    for outcome in outcomes:
        if outcome.status == "queued":
            queued += 1
            continue
        name = namespaces.get(outcome.key) or outcome.key.id
        actions = ", ".join(outcome.actions) or "-"
        row(table, name, outcome.status, actions, outcome.message or "-")
    if table.row_count:
        out.print(table)
    if queued:
        out.print(f"Queued for the running service: {queued}. `provisioner status` shows the rest.")


def _phase(record: model.Record) -> str:
    """Say where a product is in its life."""
    if record.released_at is None:
        return record.phase.value
    return "purged" if record.purged_at else "released"


def finding_printer(out: Console) -> Callable[[object], None]:
    """Return what prints the findings of an examination as they are made."""
    from provisioner.domain import findings

    styles = {
        findings.Verdict.GOOD: "green",
        findings.Verdict.DOUBTFUL: "yellow",
        findings.Verdict.BAD: "bold red",
        findings.Verdict.SKIPPED: "dim",
    }

    def tell(found: object) -> None:
        from rich.text import Text

        if isinstance(found, findings.Finding):
            line = Text.assemble(
                (f"{found.verdict.value:>11}", styles[found.verdict]),
                f"  {found.about}: {errors.printable(found.told)}",
            )
            out.print(line, soft_wrap=True)

    return tell


def show_attempts(out: Console, attempts: Sequence[findings.Attempt]) -> None:
    """Print what throw-away keys tried, and whether the engine kept our promise."""
    if not attempts:
        return
    words = {True: "allowed", False: "refused", None: "no answer"}
    table = table_of(
        "Throw-away keys on the live engine", "when", "who tries to", "promised", "found"
    )
    for each in attempts:
        row(
            table,
            each.when,
            f"{each.who}: {each.what}",
            words[each.promised],
            f"{words[each.allowed]} {each.told}".strip(),
            style=None if each.as_promised else "bold red",
        )
    out.print(table)


def when(moment: datetime) -> str:
    """Write a moment for a person, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _age(since: datetime | None, now: datetime | None = None) -> str:
    """Say how long ago, in the largest unit that fits."""
    if since is None:
        return "-"
    seconds = int(((now or datetime.now(UTC)) - since).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"
