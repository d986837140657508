"""Keep a store safe: into a file, and back."""

from __future__ import annotations

from pathlib import Path

import click

from provisioner.commands import options


@click.command(short_help="Write the whole store into one file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def backup(file: Path, force: bool) -> None:
    """Write all that the store holds into FILE (`-` is standard output), while the service runs.

    One consistent state, for SQLite and PostgreSQL alike. Secrets stay sealed, and the sealing
    keys (PROV_SEALING_KEYS) are not in it: keep them elsewhere, for nothing opens it without.
    """
    from provisioner import assembly, backups

    settings = options.read_settings()
    with options.disk():
        rows = backups.backup(settings, file, force=force, clock=assembly.utc_now)
    click.echo(
        f"backed up: {rows} rows. The sealing keys are not in it: keep them, elsewhere.", err=True
    )


@click.command(short_help="Bring the store back from a backup.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--replace", is_flag=True, help="Drop what the store holds; asks before.")
@click.option("--yes", is_flag=True, help="Do not ask whether you mean it.")
def restore(file: Path, replace: bool, yes: bool) -> None:
    """Make the store what a backup in FILE (`-` is standard input) says; it may be of another kind.

    Stop every service first. All is restored or nothing: a file that is damaged, cut short or
    newer than this program is refused, and so is a store that holds anything, without --replace.
    Ends with 2 where PROV_SEALING_KEYS does not open what is in it.

    What has changed since the backup is found by the service after its next start: each product
    is compared with the portal and the engine before anything of it is touched.
    """
    from provisioner import assembly, backups

    settings, clock = options.read_settings(), assembly.utc_now
    with options.disk():
        rows = backups.held(settings, clock=clock) if replace else 0
        if rows and not yes:
            if file == backups.STANDARD:
                raise click.UsageError("with a backup from standard input say --yes, too")
            question = f"The store holds {rows} rows. Drop them all?"
            click.confirm(question, abort=True, err=True)
        header, restored = backups.restore(settings, file, replace=replace, clock=clock)
    click.echo(
        f"restored: {restored} products, as they were at {header.taken_at}; "
        "the sealing keys open every secret."
    )
    click.echo("Start the service now: it compares each of them with what has become of it since.")
