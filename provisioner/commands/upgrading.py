"""Bring workspaces to the template as it is now."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from provisioner.commands import options

if TYPE_CHECKING:
    from provisioner import assembly, model, rollout

_FAILED, _CONFLICTS = 1, 3


@click.command(short_help="Bring workspaces to the template as it is now.")
@options.NAMESPACE
@click.option("--all", "everything", is_flag=True, help="Every workspace that is behind.")
@click.option("--dry-run", is_flag=True, help="Say what would become of each file; touch nothing.")
@click.option("--canary", type=click.IntRange(1), metavar="N", help="Of all, the first N only.")
def upgrade(namespace: str | None, everything: bool, dry_run: bool, canary: int | None) -> None:
    """Bring a workspace to the template as it is now, keeping what its users changed.

    Where a change of theirs and one of the template do not go together the file stays as it is,
    and the new version goes beside it as FILE.template-new. With PROV_TEMPLATE_UPDATES=auto the
    service does this by itself.

    Interrupt it whenever you like: what is done is done, the service goes on with the rest, and
    the next call of --all finds what is left. Exit code 0: all is well; 1: something failed; 2:
    the settings cannot be used; 3: done, with files in conflict.
    """
    from provisioner import operations, rollout

    options.one_or_all(namespace, everything)
    if canary is not None and not everything:
        raise click.UsageError("--canary is for --all")
    with operations.opened(options.read_settings(), read_only=dry_run) as parts:
        berths = rollout.chosen(parts, namespace, canary=canary)
        if not berths:
            click.echo("Every workspace is at the template as it is now.")
            return
        code = _foresee(parts, berths) if dry_run else _roll_out(parts, berths)
        left = len(rollout.chosen(parts, None, canary=None)) if canary else 0
    if left and not dry_run:
        click.echo(
            f"{len(berths)} upgraded, {left} left. Look at them, then: provisioner upgrade --all",
            err=True,
        )
    sys.exit(code)


def _foresee(parts: assembly.Parts, berths: tuple[rollout.Berth, ...]) -> int:
    """Print what would become of each file; return the exit code."""
    from provisioner import rollout, tables

    out = tables.console()
    found = rollout.foresee(parts, berths, tables.progress(out))
    told = [
        (each.record.namespace, each.report.after.shown, each.report.changes)
        for each in found
        if each.report
    ]
    tables.show_changes(out, "What would become of the files", told)
    for each in found:
        if each.refusal:
            click.echo(f"{each.record.namespace}: {each.refusal}", err=True)
    if any(each.refusal for each in found):
        return _FAILED
    return _CONFLICTS if any(each.report and each.report.conflicts for each in found) else 0


def _roll_out(parts: assembly.Parts, berths: tuple[rollout.Berth, ...]) -> int:
    """Upgrade, print what became of each file, and return the exit code."""
    from provisioner import operations, rollout, tables

    out = tables.console()

    def tell(outcome: model.Outcome) -> None:
        name = operations.namespaces(parts, [outcome])[outcome.key]
        click.echo(f"The service tries {name} again: {outcome.message}", err=True)

    outcomes = rollout.roll_out(parts, berths, tables.progress(out), tell=tell)
    failed = [each for each in outcomes if each.status not in ("done", "queued")]
    if failed:
        tables.show_outcomes(out, failed, operations.namespaces(parts, failed))
    before = {each.record.key: each.record for each in berths}
    after = [
        record
        for outcome in outcomes
        if outcome.status == "done"
        and (record := parts.store.records.load(outcome.key)) is not None
    ]
    tables.show_changes(out, "What became of the files", _changes(after, before))
    if failed:
        return _FAILED
    return _CONFLICTS if any(record.workspace.conflicts for record in after) else 0


def _changes(
    after: Iterable[model.Record], before: dict[model.Key, model.Record]
) -> Iterable[tuple[str, str, dict[str, str]]]:
    """Return what this call did to each workspace: nothing where it was at the template."""
    for record in after:
        upgrades = record.workspace.upgrades
        if upgrades and upgrades != before[record.key].workspace.upgrades:
            yield record.namespace, upgrades[0].after, dict(upgrades[0].files)
        else:
            yield record.namespace, record.workspace.template_digest[:12] or "none", {}
