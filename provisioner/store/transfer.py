"""Carry a store out of its database and into another one, of whatever kind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import sqlalchemy

from provisioner import errors, migrations, ports
from provisioner.seal import Seal
from provisioner.store import database, dump, queueing


@contextlib.contextmanager
def reading(url: str, *, clock: ports.Clock) -> Iterator[tuple[str, Iterator[dump.Row]]]:
    """Yield the version of a store and all rows that are kept, beside a service or without one."""
    base = database.Database(url, clock=clock, migrates=False)
    with contextlib.closing(base), base.snapshot() as connection:
        version = migrations.current(connection)
        if version is None:
            raise errors.PermanentError("there is no store to back up (PROV_DATABASE_URL)")
        yield version, dump.read(connection)


def held(url: str, *, clock: ports.Clock) -> int:
    """Count the rows that a restore would replace; 0 for a store that holds nothing."""
    base = database.Database(url, clock=clock, migrates=False)
    with contextlib.closing(base), base.reading() as connection:
        return dump.count(connection)


def restore(
    url: str,
    version: str,
    rows: Iterable[dump.Row],
    source: Seal | Callable[[bool], Seal],
    *,
    clock: ports.Clock,
    replace: bool,
) -> int:
    """Replace all that a store holds by these rows, or nothing; return how many records there are.

    Raise `PermanentError` where somebody works on the store, or it holds anything and `replace`
    is not said; `ConfigurationError` where the sealing keys do not open every secret.
    """
    base = database.Database(url, clock=clock, migrates=False)
    with contextlib.closing(base), base.alone() as connection:
        _check(connection, base, replace=replace)
        dump.replace(connection, version, rows)
        opens = source if isinstance(source, Seal) else source(dump.is_sealed(connection))
        closed = dump.unopened(connection, opens)
        if closed:
            raise errors.ConfigurationError(
                (
                    "PROV_SEALING_KEYS: expects the keys that sealed this backup;"
                    f" the secrets of {closed} products stay closed, and nothing was restored",
                )
            )
        return dump.revive(connection, opens, now=clock())


def _check(connection: sqlalchemy.Connection, base: database.Database, *, replace: bool) -> None:
    """Refuse to drop what is in use, what is newer than we are, or what nobody said to drop."""
    version = migrations.current(connection)
    if not migrations.knows(version):
        raise errors.PermanentError("the store was made by a newer version of the provisioner")
    served = version is not None and not base.single_process
    if served and queueing.is_worked_on(connection, base.now(connection)):
        raise errors.PermanentError("somebody works on this store: stop every service first")
    if dump.count(connection) and not replace:
        raise errors.PermanentError("the store holds something: see provisioner restore --replace")
