"""Look, and change nothing that lasts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from provisioner.commands import options


@click.command(short_help="Print what would be done; touch nothing.")
@options.NAMESPACE
@click.option("--all", "everything", is_flag=True, help="Every product the portal lists.")
def plan(namespace: str | None, everything: bool) -> None:
    """Print what would be made, and who would gain or lose which access. Touches nothing.

    Reads the portal and, if there is one, the store; needs no S3, no IAM and no webhook secret.
    Begin here with your own portal: PROV_DPP_API_URL and PROV_DPP_API_KEY are enough.
    """
    from provisioner import operations, tables

    options.one_or_all(namespace, everything)
    out = tables.console()
    with operations.opened(options.read_settings(), read_only=True) as parts:
        previews = operations.previews(parts, namespace, tables.progress(out))
    tables.show_plan(out, previews)


@click.command(short_help="Show what the store knows.")
@options.NAMESPACE
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each.")
@click.option("--templates", is_flag=True, help="Which workspace is at which version instead.")
def status(namespace: str | None, as_json: bool, templates: bool) -> None:
    """Show what the store knows: phase, key and age, grants, conditions; never a secret.

    Without NAMESPACE one line a product; with it all about one, with its ports and what new
    versions of the template did to its files. With --templates: who is at the template as it is
    now, who is behind, and which files are in conflict.
    """
    from provisioner import operations, port_tables, tables

    if templates:
        _show_templates(namespace, as_json=as_json)
        return
    with operations.opened(options.read_settings(), read_only=True) as parts:
        records = operations.records(parts, namespace)
        seen = operations.ports_of(parts, records if namespace else ())
        flags = operations.notices(parts)
    if as_json:
        for line in operations.as_json(records, seen):
            click.echo(line)
    elif namespace:
        tables.show_product(tables.console(), records[0], parts.clock())
        port_tables.show(tables.console(), seen[records[0].key])
    elif records:
        tables.show_status(tables.console(), records, parts.clock())
    if not records:
        click.echo("The store (PROV_DATABASE_URL) knows no product yet.", err=True)
    for notice in flags:
        click.echo(notice, err=True)


def _show_templates(namespace: str | None, *, as_json: bool) -> None:
    """Show which workspace is at which version of the template."""
    from provisioner import operations, rollout, tables

    with operations.opened(options.read_settings(), read_only=True) as parts:
        found = rollout.berths(parts, namespace)
    if as_json:
        for line in rollout.as_json(found):
            click.echo(line)
    else:
        tables.show_standings(tables.console(), ((each.record, each.standing) for each in found))


@click.command(short_help="Print the data contracts of output ports.")
@click.argument("namespace")
@click.argument("port", required=False)
def contract(namespace: str, port: str | None) -> None:
    """Print the data contract of an output PORT, or of all of a product's, as JSON.

    By the Open Data Contract Standard 3.1; made from what the port last published. JSON is YAML,
    so it may be saved as <name>.odcs.yaml.
    """
    from provisioner import operations

    with operations.opened(options.read_settings(), read_only=True) as parts:
        for text in operations.contracts(parts, namespace, port):
            click.echo(text, nl=False)


@click.command(short_help="Examine the set-up, and what the engine enforces.")
@click.option("--no-scoping", is_flag=True, help="Leave out the calls with throw-away keys.")
def doctor(no_scoping: bool) -> None:
    """Examine settings, store, portal, engine, template and folders, and say what is wrong.

    Then two throw-away products are made on the live engine, with prefixes, policies and keys
    like real ones; some thirty calls show what their keys may do, and both are removed. Exit code
    0: all is well (warnings aside); 1: something failed; 2: the settings cannot be used.
    """
    from provisioner import doctor as examination
    from provisioner import operations, tables

    out = tables.console()
    with operations.opened(options.read_settings(serving=True, quiet=True)) as parts:
        report = examination.examine(
            parts, proves_scoping=not no_scoping, tell=tables.finding_printer(out)
        )
    tables.show_attempts(out, report.attempts)
    sys.exit(0 if report.well else 1)


@click.command(short_help="Render the template into a folder.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--namespace", default="sales", show_default=True, help="Of the pretended product.")
@click.option("--name", default="Sales", show_default=True, help="Its name, as free text.")
@click.option("--description", default="", help="Its description, as free text.")
@click.option(
    "--template",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Template folder; default: PROV_TEMPLATE_PATH or the shipped one.",
)
@click.option(
    "--choice",
    type=(str, str),
    multiple=True,
    metavar="KEY VALUE",
    help="A value for a key of the template's own, as PROV_TEMPLATE_CONTEXT has them.",
)
def render(
    folder: Path,
    namespace: str,
    name: str,
    description: str,
    template: Path | None,
    choice: tuple[tuple[str, str], ...],
) -> None:
    """Render the template into FOLDER/<namespace> to look at it: no portal, no S3, no keys.

    For authors of templates: the context is the same as in service. What the service writes
    beside it (.env, .aws/, ports.json, INPUTS.md) is left out.
    """
    from provisioner import operations

    with options.disk():
        made = operations.render_into(
            folder.absolute(),
            template=template or operations.template_folder(os.environ, Path.cwd()),
            namespace=namespace,
            text={"name": name, "description": description},
            choices=dict(choice),
        )
    click.echo(f"rendered into {made}")
