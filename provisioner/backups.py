"""Back a store up into one file, and restore a store from it, because an operator asks for it.

A backup is taken beside a running service, from one snapshot. A restore happens as a whole or not
at all, and only where nobody works on the store. What the world has become since the backup is
found out afterwards, product by product: see `revival`.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from provisioner import __version__, backup_file, errors, ports, sealing, store
from provisioner.settings import Settings

STANDARD = Path("-")
"""Standard output, or input."""
_MODE = 0o600


def backup(settings: Settings, file: Path, *, force: bool, clock: ports.Clock) -> int:
    """Write all that a store holds into a file that appears in whole; return how many rows.

    Raise `PermanentError` where there is no store, or the file is there and `force` is not said.
    """
    if not store.exists(settings.database_url):
        raise errors.PermanentError("there is no store to back up (PROV_DATABASE_URL)")
    with (
        _written(file, force=force) as into,
        store.reading(settings.database_url, clock=clock) as (revision, rows),
    ):
        header = backup_file.Header(
            revision=revision, taken_at=clock().isoformat(), program=__version__
        )
        return backup_file.write(into, header, rows)


@contextlib.contextmanager
def _written(file: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Open a file beside the one that is wanted, 0600, and give it that name once it is whole."""
    if file == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not force and file.exists():
        raise errors.PermanentError("the file is there already: see --force", file=file)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    try:
        with os.fdopen(descriptor, "wb") as into:
            yield into
            into.flush()
            os.fsync(into.fileno())
        if force:
            draft.replace(file)
        else:
            _name(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    _sync(file.parent)


def _name(draft: Path, file: Path) -> None:
    """Give a file its name, unless somebody else's has it by now."""
    try:
        file.hardlink_to(draft)
    except FileExistsError as exc:
        raise errors.PermanentError("the file is there already: see --force", file=file) from exc
    except OSError:  # a file system without hard links; nothing was there when we began
        draft.replace(file)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def held(settings: Settings, *, clock: ports.Clock) -> int:
    """Count the rows that a restore would replace; 0 where there is no store yet."""
    url = settings.database_url
    return store.held(url, clock=clock) if store.exists(url) else 0


def restore(
    settings: Settings, file: Path, *, replace: bool, clock: ports.Clock
) -> tuple[backup_file.Header, int]:
    """Make the store what a backup says; return the backup's header and how many records it has.

    The file is read to its end before the store is touched.
    """
    with _opened(file) as source:
        reader = backup_file.Reader(source)
        if not store.knows(reader.header.revision):
            raise backup_file.BackupRefused(
                "the backup was made by a newer version of the provisioner"
            )
        reader.check()
        source.seek(0)
        reader = backup_file.Reader(source)
        restored = store.restore(
            settings.database_url,
            reader.header.revision,
            reader.rows(),
            sealing.source(settings),
            clock=clock,
            replace=replace,
        )
        return reader.header, restored


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a backup; what comes from standard input is kept on disk meanwhile."""
    if file != STANDARD:
        with file.open("rb") as source:
            yield source
        return
    with tempfile.TemporaryFile() as kept:
        while piece := sys.stdin.buffer.read(io.DEFAULT_BUFFER_SIZE):
            kept.write(piece)
        kept.seek(0)
        yield kept
