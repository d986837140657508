"""Look after what is sealed: count it by key, seal it anew, forget what no key opens.

Page by page, each in its own transaction. A service may be writing the same rows: a row is only
changed while its sealed value is still the one that was read. Every seal is unlike every other,
so an equal value means an equal row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy
from sqlalchemy import select

from provisioner import model
from provisioner.domain import loss
from provisioner.seal import Seal
from provisioner.store import codec, database, queueing, schema

_records = schema.records
_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Seals:
    """How many rows each key opens: the one that seals, an older one, none."""

    first: int = 0
    older: int = 0
    unopened: int = 0

    @property
    def all_first(self) -> bool:
        """Tell whether the keys behind the first can go."""
        return not (self.older or self.unopened)


@dataclass(frozen=True)
class _Row:
    key: str
    sealed: str


class SqlSealed:
    """Work on the sealed column of the records."""

    def __init__(self, base: database.Database, seal: Seal) -> None:
        self._database = base
        self._seal = seal

    def count(self) -> Seals:
        """Open every row, each key by itself."""
        found = [self._seal.position(row.sealed) for page in self._pages() for row in page]
        unopened = found.count(None)
        first = found.count(0)
        return Seals(first=first, older=len(found) - first - unopened, unopened=unopened)

    def renew(self) -> int:
        """Seal anew what an older key sealed; return how many rows changed.

        A row that was written meanwhile is left as it is, and so is one that no key opens.
        """
        return sum(self._renew(page) for page in self._pages())

    def _renew(self, page: Sequence[_Row]) -> int:
        # Sealed before the transaction begins: writers of a service wait as briefly as can be.
        stale = [row for row in page if self._seal.position(row.sealed)]
        anew = [(row, self._seal.seal(self._seal.open(row.sealed))) for row in stale]
        if not anew:
            return 0
        with self._database.writing() as connection:
            return sum(_change(connection, row, {"sealed": sealed}) for row, sealed in anew)

    def forget(self, *, now: datetime, grace: timedelta) -> int:
        """Forget the secrets that no key opens and queue their products; return how many.

        For the process that serves alone. One that is killed half-way leaves the rest as it was.
        """
        return sum(self._forget(page, now, grace) for page in self._pages())

    def _forget(self, page: Sequence[_Row], now: datetime, grace: timedelta) -> int:
        lost = [row for row in page if self._seal.position(row.sealed) is None]
        if not lost:
            return 0
        keys = [model.Key.parse(row.key) for row in lost]
        with self._database.writing() as connection:
            # The queue before the records, as in every other transaction: else two could wait
            # for each other. Behind events: a revocation must not wait for ten thousand keys.
            ready_at = self._database.now(connection)
            queueing.touch(connection, dict.fromkeys(keys, ()), model.Priority.RESYNC, ready_at)
            return sum(self._forget_row(connection, row, now, grace) for row in lost)

    @staticmethod
    def _forget_row(
        connection: sqlalchemy.Connection, row: _Row, now: datetime, grace: timedelta
    ) -> int:
        held = connection.scalar(select(_records.c.state).where(_records.c.key == row.key))
        if held is None:
            return 0
        record = loss.without_secrets(codec.decode(held, {}), now=now, grace=grace)
        state, _ = codec.encode(record)
        changes = {"sealed": None, "state": state, "settled_digest": record.settled_digest}
        return _change(connection, row, changes)

    def _pages(self) -> Iterator[Sequence[_Row]]:
        """Read every row that holds something sealed, by key."""
        after = ""
        while True:
            with self._database.reading() as connection:
                page = _sealed_behind(connection, after)
            if not page:
                return
            yield page
            after = page[-1].key


def _sealed_behind(connection: sqlalchemy.Connection, after: str) -> Sequence[_Row]:
    """Read the next rows behind a key."""
    statement = (
        select(_records.c.key, _records.c.sealed)
        .where(_records.c.key > after, _records.c.sealed.is_not(None))
        .order_by(_records.c.key)
        .limit(_PAGE)
    )
    return [_Row(row.key, row.sealed) for row in connection.execute(statement)]


def _change(connection: sqlalchemy.Connection, row: _Row, values: dict[str, str | None]) -> int:
    """Change a row unless somebody wrote it meanwhile; return how many rows that were."""
    statement = (
        sqlalchemy.update(_records)
        .where(_records.c.key == row.key, _records.c.sealed == row.sealed)
        .values(values)
    )
    return connection.execute(statement).rowcount
