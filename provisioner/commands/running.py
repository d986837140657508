"""Run the service, or the demo of it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from provisioner.commands import options


@click.command(short_help="Hear webhooks and reconcile, until SIGTERM.")
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

    server.serve(options.read_settings(serving=True), lost_sealing_key=lost_sealing_key)


@click.command(short_help="Play the whole story on this machine.")
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

    with options.disk():
        good = story.play(folder.absolute(), tables.console(), keep=keep, drawn=picture)
    sys.exit(0 if good else 1)
