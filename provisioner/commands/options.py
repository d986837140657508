"""Share what several commands take: a namespace or all, the settings, the disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from provisioner import settings

NAMESPACE = click.argument("namespace", required=False)


@contextlib.contextmanager
def disk() -> Iterator[None]:
    """Say in one line where a folder or file that was asked for cannot be written."""
    try:
        yield
    except OSError as exc:
        if exc.strerror is None:
            raise
        where = f"{exc.filename}: " if exc.filename else ""  # a full disk names no file
        raise click.ClickException(f"{where}{exc.strerror}") from exc


def one_or_all(namespace: str | None, everything: bool) -> None:
    """Insist on exactly one of a namespace and --all."""
    if bool(namespace) is everything:
        raise click.UsageError("give one NAMESPACE (or id), or --all")


def read_settings(*, serving: bool = False, quiet: bool = False) -> settings.Settings:
    """Read the settings from the environment, in the one place that does.

    `serving` insists on what a service needs; `quiet` leaves the screen to the command.
    """
    from provisioner import settings as reader
    from provisioner import telemetry

    loaded = reader.load(os.environ, cwd=Path.cwd(), serving=serving)
    level = "error" if quiet else loaded.log_level if serving else "warning"
    telemetry.configure(level, loaded.log_format)
    return loaded
