"""The command line: what an operator types, and help that teaches.

Every import of weight happens within a command, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner import __version__

if TYPE_CHECKING:
    from provisioner import settings

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_NAMESPACE = click.argument("namespace", required=False)


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="provisioner")
def cli() -> None:
    """Give every data product of the portal a workspace, an S3 prefix and scoped credentials.

    \b
    New here?            provisioner demo            (everything embedded, nothing to set up)
    Careful?             provisioner plan --all      (reads your portal, touches nothing)
    Ready?               provisioner serve           (hears webhooks, reconciles)
    What is going on?    provisioner status

    Settings come from the environment (PROV_DPP_API_URL, WEBHOOK_SECRET, S3_ENDPOINT, ...); each
    can also be given as NAME_FILE. docs/settings.md lists them all.
    """  # noqa: D301 - click wants the backspace itself


@cli.command(short_help="Hear webhooks and reconcile, until SIGTERM.")
@click.option(
    "--lost-sealing-key",
    is_flag=True,
    help="The sealing key is lost for good: give every product whose secrets no key opens a new "
    "S3 key. For one start only.",
)
def serve(lost_sealing_key: bool) -> None:
    """Hear the portal's webhooks and reconcile, until SIGTERM.

    Needs PROV_DPP_API_URL and a proof for webhooks (WEBHOOK_SECRET or PROV_WEBHOOK_BASIC_AUTH).
    Starts while portal, S3 and IAM are down; they are tried again. With PROV_MODE=observe it
    only says what it would do.
    """
    from provisioner import server

    server.serve(_settings(serving=True), lost_sealing_key=lost_sealing_key)


@cli.command(short_help="Play the whole story on this machine.")
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/demo"),
    show_default=True,
    help="Where the demo lives; emptied at its start. No spaces in its path.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save the table of what was tried as an SVG.",
)
def demo(keep: bool, folder: Path, picture: Path | None) -> None:
    """Play the whole story on this machine, with an embedded S3 and a small portal.

    A product is created and its workspace appears; SQLMesh plans and publishes in it; a second
    product asks for access and gets 403, then data, then 403 again.
    """
    try:
        from provisioner.demo import story
    except ImportError as exc:
        raise click.ClickException(
            f"the demo needs the extra 'demo' ({exc.name} is missing): scripts/demo installs it"
        ) from exc
    from provisioner import tables

    with _disk():
        good = story.play(folder.absolute(), tables.console(), keep=keep, drawn=picture)
    sys.exit(0 if good else 1)


@cli.command(short_help="Print what would be done; touch nothing.")
@_NAMESPACE
@click.option("--all", "everything", is_flag=True, help="Every product the portal lists.")
def plan(namespace: str | None, everything: bool) -> None:
    """Print what would be made, and who would gain or lose which access. Touches nothing.

    Reads the portal and, if there is one, the store; needs no S3, no IAM and no webhook secret.
    Begin here with your own portal: PROV_DPP_API_URL and PROV_DPP_API_KEY are enough.
    """
    from provisioner import operations, tables

    _one_or_all(namespace, everything)
    out = tables.console()
    with operations.opened(_settings(), read_only=True) as parts:
        previews = operations.previews(parts, namespace, tables.progress(out))
    tables.show_plan(out, previews)


@cli.command(short_help="Show what the store knows.")
@_NAMESPACE
@click.option("--json", "as_json", is_flag=True, help="One JSON object a product.")
def status(namespace: str | None, as_json: bool) -> None:
    """Show what the store knows: phase, key and age, grants, conditions; never a secret.

    Without NAMESPACE one line a product; with it all about one.
    """
    from provisioner import operations, tables

    with operations.opened(_settings(), read_only=True) as parts:
        records = operations.records(parts, namespace)
        flags = operations.notices(parts)
    if as_json:
        for line in operations.as_json(records):
            click.echo(line)
    elif namespace:
        tables.show_product(tables.console(), records[0], parts.clock())
    elif records:
        tables.show_status(tables.console(), records, parts.clock())
    if not records:
        click.echo("The store (PROV_DATABASE_URL) knows no product yet.", err=True)
    for notice in flags:
        click.echo(notice, err=True)


@cli.command(short_help="Make one product right now, or all.")
@_NAMESPACE
@click.option("--all", "everything", is_flag=True, help="Every product the portal lists.")
def reconcile(namespace: str | None, everything: bool) -> None:
    """Look at one product again now, by NAMESPACE or id, and make it right.

    Beside a running service it queues the product there; without one it does the work itself
    and waits for it.
    """
    from provisioner import operations, tables

    _one_or_all(namespace, everything)
    out = tables.console()
    with operations.opened(_settings()) as parts:
        outcomes = operations.reconcile(parts, namespace, tables.progress(out))
        named = operations.namespaces(parts, outcomes)
    tables.show_outcomes(out, outcomes, named)
    if any(outcome.status not in ("done", "queued", "observed") for outcome in outcomes):
        sys.exit(1)


@cli.command(short_help="Replace keys now, of one product or all.")
@_NAMESPACE
@click.option("--all", "everything", is_flag=True, help="Every product that has keys.")
@click.option("--compromised", is_flag=True, help="Kill the old keys at once, without any grace.")
def rotate(namespace: str | None, everything: bool, compromised: bool) -> None:
    """Give a product a new key now; the old one keeps working for its grace period.

    With --compromised every key of it dies first, so jobs fail until they read the new one from
    .env. Interrupt it whenever you like: beside a service the rest goes on there, and the next
    call of --all goes on where this one stopped.
    """
    from provisioner import operations, rotation, tables

    _one_or_all(namespace, everything)
    out = tables.console()
    with operations.opened(_settings()) as parts:
        keys = rotation.chosen(parts, namespace)
        left = rotation.unfinished(parts, keys, compromised=compromised) if everything else ()
        if left:
            click.echo(f"Going on with {len(left)} of {len(keys)} from an earlier call.", err=True)
        outcomes = rotation.rotate(
            parts, left or keys, tables.progress(out), compromised=compromised, resume=bool(left)
        )
        named = operations.namespaces(parts, outcomes)
    tables.show_outcomes(out, outcomes, named)
    if any(outcome.status not in ("done", "queued") for outcome in outcomes):
        sys.exit(1)


@cli.command(short_help="Have the service compare the whole portal.")
@click.option("--confirm-deletions", is_flag=True, help="Let a held-back mass deletion go on.")
def resync(confirm_deletions: bool) -> None:
    """Ask the running service to compare the whole portal with what it knows.

    It does so by itself every PROV_RESYNC_SECONDS. If more than 5 products and 10 % of all
    would be released at once it releases none, until this is called with --confirm-deletions.
    """
    from provisioner import operations

    with operations.opened(_settings(), read_only=True) as parts:
        heard = operations.ask_for_resync(parts, confirm_deletions=confirm_deletions)
    if not heard:
        raise click.ClickException(
            "no service runs on this store (PROV_DATABASE_URL); it resyncs whenever it starts"
        )
    click.echo("A resync was asked for; the service begins within a second.")


@cli.command(short_help="Seal every stored secret anew with the first key.")
def reseal() -> None:
    """Seal every stored secret anew with the first of PROV_SEALING_KEYS.

    So that the keys behind it can be dropped. First put the new key in front and restart the
    service, which seals with the keys it read at its start. Ends with 1 while any secret still
    needs an older key.
    """
    from provisioner import assembly, sealing

    done = sealing.reseal(_settings(), clock=assembly.utc_now)
    click.echo(f"sealed anew: {done.renewed}; sealed by the first key now: {done.seals.first}")
    if done.seals.all_first:
        click.echo("Every stored secret is sealed by the first key: the others may go.")
        return
    raise click.ClickException(
        f"{done.seals.older} rows are still sealed by an older key and {done.seals.unopened} by "
        "none of these: a service that writes them has other keys. Restart it with the first key "
        "in front, then reseal again; drop no key yet"
    )


@cli.command(short_help="Render the template into a folder.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--namespace", default="sales", show_default=True, help="Of the pretended product.")
@click.option("--name", default="Sales", show_default=True, help="Its name, as free text.")
@click.option("--description", default="", help="Its description, as free text.")
@click.option(
    "--template",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Template folder; default: PROV_TEMPLATE_PATH or the shipped one.",
)
def render(
    folder: Path, namespace: str, name: str, description: str, template: Path | None
) -> None:
    """Render the template into FOLDER/<namespace> to look at it: no portal, no S3, no keys.

    For authors of templates: the context is the same as in service. What the service writes
    beside it (.env, .aws/, ports.json, INPUTS.md) is left out.
    """
    from provisioner import operations

    with _disk():
        made = operations.render_into(
            folder.absolute(),
            template=template or operations.template_folder(os.environ, Path.cwd()),
            namespace=namespace,
            text={"name": name, "description": description},
        )
    click.echo(f"rendered into {made}")


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """Say in one line where a folder or file that was asked for cannot be written."""
    try:
        yield
    except OSError as exc:
        if exc.filename is None:
            raise
        raise click.ClickException(f"{exc.filename}: {exc.strerror}") from exc


def _one_or_all(namespace: str | None, everything: bool) -> None:
    """Insist on exactly one of a namespace and --all."""
    if bool(namespace) is everything:
        raise click.UsageError("give one NAMESPACE (or id), or --all")


def _settings(*, serving: bool = False) -> settings.Settings:
    """Read the settings from the environment, in the one place that does."""
    from provisioner import settings as reader
    from provisioner import telemetry

    loaded = reader.load(os.environ, cwd=Path.cwd(), serving=serving)
    level = loaded.log_level if serving else "warning"
    telemetry.configure(level, loaded.log_format)
    return loaded


def main() -> None:
    """Run a command; settings that are wrong end with 2, anything else that we know with 1."""
    from provisioner import errors

    try:
        cli()
    except errors.ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except errors.ProvisionerError as error:
        click.echo(f"provisioner: {error}", err=True)
        sys.exit(1)
