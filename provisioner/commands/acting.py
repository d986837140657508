"""Ask for work: here, or of the service that runs on the same store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from provisioner.commands import options

if TYPE_CHECKING:
    from provisioner import assembly, model


@click.command(short_help="Make one product right now, or all.")
@options.NAMESPACE
@click.option("--all", "everything", is_flag=True, help="Every product the portal lists.")
@click.option("--verify", is_flag=True, help="Read policies, keys, prefix and files back, too.")
def reconcile(namespace: str | None, everything: bool, verify: bool) -> None:
    """Look at one product again now, by NAMESPACE or id, and make it right.

    With --verify it looks deep, as it does by itself every PROV_VERIFY_HOURS: what somebody
    changed by hand at the engine, in the bucket or in the workspace is found and repaired.

    Beside a running service it queues the product there; without one it does the work itself
    and waits for it.
    """
    from provisioner import operations, tables

    options.one_or_all(namespace, everything)
    out = tables.console()
    with operations.opened(options.read_settings()) as parts:
        outcomes = operations.reconcile(parts, namespace, tables.progress(out), verify=verify)
        named = operations.namespaces(parts, outcomes)
    tables.show_outcomes(out, outcomes, named)
    if any(outcome.status not in ("done", "queued", "observed") for outcome in outcomes):
        sys.exit(1)


@click.command(short_help="Replace keys now, of one product or all.")
@options.NAMESPACE
@click.option("--all", "everything", is_flag=True, help="Every product that has keys.")
@click.option("--compromised", is_flag=True, help="Kill the old keys at once, without any grace.")
def rotate(namespace: str | None, everything: bool, compromised: bool) -> None:
    """Give a product a new key now; the old one keeps working for its grace period.

    With --compromised every key of it dies first, so jobs fail until they read the new one from
    .env. Interrupt it whenever you like: beside a service the rest goes on there, and the next
    call of --all goes on where this one stopped, unless keys have leaked: then it does them all.
    """
    from provisioner import operations, rotation, tables

    options.one_or_all(namespace, everything)
    out = tables.console()
    with operations.opened(options.read_settings()) as parts:
        keys = rotation.chosen(parts, namespace)
        resumes = everything and not compromised  # a leak may be newer than the earlier call
        left = rotation.unfinished(parts, keys, compromised=compromised) if resumes else ()
        if left:
            click.echo(f"Going on with {len(left)} of {len(keys)} from an earlier call.", err=True)

        def tell(outcome: model.Outcome) -> None:
            name = operations.namespaces(parts, [outcome])[outcome.key]
            click.echo(f"The service tries {name} again: {outcome.message}", err=True)

        outcomes = rotation.rotate(
            parts,
            left or keys,
            tables.progress(out),
            compromised=compromised,
            resume=bool(left),
            tell=tell,
        )
        named = operations.namespaces(parts, outcomes)
    tables.show_outcomes(out, outcomes, named)
    if any(outcome.status not in ("done", "queued") for outcome in outcomes):
        sys.exit(1)
    if left and len(left) < len(keys):
        click.echo(
            f"That was what an earlier call had left, {len(left)} of {len(keys)}: call again to "
            "give all of them new keys.",
            err=True,
        )


@click.command(short_help="Give a product what a dead one left in its way.")
@click.argument("namespace")
def adopt(namespace: str) -> None:
    """Hand a dead product's prefix and folder to the one that has its NAMESPACE (or id) now.

    For a product with the condition NotOurs. Its data and files become the product's; grants and
    keys of the dead one do not come back. Refused while whoever has it may still live.
    """
    from provisioner import model, succession

    _ask(namespace, model.Ask.ADOPT, find=succession.heir)


@click.command(short_help="Delete what a deleted product left.")
@click.argument("namespace")
@click.option("--yes", is_flag=True, help="Do not ask whether you mean it.")
def purge(namespace: str, yes: bool) -> None:
    """Delete data and archived workspace of a deleted product, now and for good.

    NAMESPACE is one that it had at its end, or its id. What another product has adopted stays.
    With PROV_ON_DELETE=purge this happens by itself after PROV_PURGE_DELAY_SECONDS.
    """
    from provisioner import model, succession

    def confirm(record: model.Record) -> None:
        if not yes:
            question = f"Delete all data of {record.namespace} ({record.key.id}) for good?"
            click.confirm(question, abort=True, err=True)

    _ask(namespace, model.Ask.PURGE, find=succession.dead, confirm=confirm)


def _ask(
    name: str,
    wish: model.Ask,
    *,
    find: Callable[[assembly.Parts, str], model.Record],
    confirm: Callable[[model.Record], None] = lambda record: None,
) -> None:
    """Find a product, note a wish for it and print what came of it."""
    from provisioner import operations, succession, tables

    out = tables.console()
    with operations.opened(options.read_settings()) as parts:
        record = find(parts, name)
        confirm(record)
        outcomes = succession.ask(parts, record, wish, tables.progress(out))
    tables.show_outcomes(out, outcomes, {record.key: record.namespace})
    if any(outcome.status not in ("done", "queued") for outcome in outcomes):
        sys.exit(1)


@click.command(short_help="Have the service compare the whole portal.")
@click.option("--confirm-deletions", is_flag=True, help="Let a held-back mass deletion go on.")
def resync(confirm_deletions: bool) -> None:
    """Ask the running service to compare the whole portal with what it knows.

    It does so by itself every PROV_RESYNC_SECONDS. If more than 5 products and 10 % of all
    would be released at once it releases none, until this is called with --confirm-deletions.
    """
    from provisioner import operations

    with operations.opened(options.read_settings(), read_only=True) as parts:
        heard = operations.ask_for_resync(parts, confirm_deletions=confirm_deletions)
    if not heard:
        raise click.ClickException(
            "no service runs on this store (PROV_DATABASE_URL); it resyncs whenever it starts"
        )
    click.echo("A resync was asked for; the service begins within a second.")


@click.command(short_help="Bring the store's tables to this version.")
@click.option("--check", is_flag=True, help="Change nothing; end with 1 unless up to date.")
def migrate(check: bool) -> None:
    """Bring the tables of the store to this version, and say which they were of before.

    A start does the same. It never goes back; a store of a newer version is refused.
    """
    from provisioner import assembly, store

    url = options.read_settings().database_url
    before = store.version(url)
    after = before if check else store.migrate(url, clock=assembly.utc_now)
    click.echo(f"before: {before or 'empty'}; after: {after or 'empty'}; newest: {store.NEWEST}")
    if after != store.NEWEST:
        sys.exit(1)


@click.command(short_help="Seal every stored secret anew with the first key.")
def reseal() -> None:
    """Seal every stored secret anew with the first of PROV_SEALING_KEYS.

    So that the keys behind it can be dropped. First put the new key in front and restart the
    service, which seals with the keys it read at its start. Ends with 1 while any secret still
    needs an older key.
    """
    from provisioner import assembly, sealing

    done = sealing.reseal(options.read_settings(), clock=assembly.utc_now)
    click.echo(f"sealed anew: {done.renewed}; sealed by the first key now: {done.seals.first}")
    if done.seals.all_first:
        click.echo("Every stored secret is sealed by the first key: the others may go.")
        return
    raise click.ClickException(
        f"{done.seals.older} rows are still sealed by an older key and {done.seals.unopened} by "
        "none of these: a service that writes them has other keys. Restart it with the first key "
        "in front, then reseal again; drop no key yet"
    )
