"""Keep all that must outlive the process, in SQLite or PostgreSQL: one place for SQL.

`open_store` migrates the database and makes sure that what is sealed in it can be opened. The
queue's own port lies above this package, in `provisioner.workqueue`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from provisioner import errors, migrations, ports
from provisioner.seal import Seal
from provisioner.store import database, places, records, sealed, times, transfer
from provisioner.store.asks import SqlAsks
from provisioner.store.contracts import SqlContracts
from provisioner.store.flags import SqlFlags
from provisioner.store.history import SqlHistory
from provisioner.store.inbox import SqlInbox
from provisioner.store.links import SqlLinks
from provisioner.store.turns import SqlTurns

Seals = sealed.Seals
exists = places.exists
reading, restore, held = transfer.reading, transfer.restore, transfer.held
knows = migrations.knows
version, migrate = database.version, database.migrate
NEWEST = migrations.HEAD
SealSource = Seal | Callable[[bool], Seal]
"""A seal, or what makes one when told whether the store holds anything sealed."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """The ports that one database implements."""

    database: database.Database
    inbox: SqlInbox
    records: records.SqlRecords
    links: SqlLinks
    asks: SqlAsks
    contracts: SqlContracts
    flags: SqlFlags
    history: SqlHistory
    turns: SqlTurns
    sealed: sealed.SqlSealed

    def seals(self) -> Seals:
        """Count the rows that each sealing key opens."""
        return self.sealed.count()

    def close(self) -> None:
        """Close the database and let another process serve it."""
        self.database.close()


def open_store(
    url: str,
    seal_source: SealSource,
    *,
    clock: ports.Clock,
    lost_key: bool = False,
    time: times.Time | None = None,
) -> Store:
    """Open the database a URL names, made and migrated where needed.

    With `lost_key` it is opened as the process that serves, and what no key opens may be in it,
    to be forgotten by `Store.sealed`. Leases go by the server's clock where there is one, unless
    `time` says otherwise. Raise `ConfigurationError` where the URL or the sealing
    keys do not fit, `StoreUnavailable` where the database cannot be used now.
    """
    base = database.Database(url, clock=clock, time=time)
    try:
        if lost_key and not base.acquire():
            raise errors.ConfigurationError(
                ("PROV_DATABASE_URL: a service or a command works on this SQLite database",)
            )
        seal = _fitting_seal(base, seal_source, must_open=not lost_key)
    except BaseException:
        base.close()
        raise
    return Store(
        database=base,
        inbox=SqlInbox(base),
        records=records.SqlRecords(base, seal),
        links=SqlLinks(base),
        asks=SqlAsks(base, clock=clock),
        contracts=SqlContracts(base),
        flags=SqlFlags(base),
        history=SqlHistory(base),
        turns=SqlTurns(base),
        sealed=sealed.SqlSealed(base, seal),
    )


def _fitting_seal(base: database.Database, source: SealSource, *, must_open: bool) -> Seal:
    """Return a seal that opens what is stored: better no start than secrets nobody can read."""
    with base.reading() as connection:
        held = records.all_sealed(connection)
    seal = source if isinstance(source, Seal) else source(bool(held))
    for each in held if must_open else ():  # any may have been sealed with a key that is gone
        seal.open(each)
    return seal
