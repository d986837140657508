"""Read every row that a backup takes, in one snapshot, and write them into an empty database.

Rows are read and written by the columns that are there, not by those of this version: an older
database is backed up as it is, and an older backup is restored into tables of its own version,
which are then brought forward like any others.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

import sqlalchemy
from sqlalchemy import Date, select

from provisioner import errors, migrations, model
from provisioner.domain import revival
from provisioner.seal import Seal
from provisioner.store import codec, flags, schema

KEPT = ("records", "links", "asks", "contracts", "flags")
LEFT = ("queue", "queue_ports", "turns", "deliveries", "outcomes")
"""Who works on what, and what has happened: nothing follows from either after a restore."""
_OF_STARTS = ("flags", "turns")
Row = tuple[str, Mapping[str, Any]]
_AT_ONCE = 200
_records = schema.records


class Unfit(errors.PermanentError):
    """Report rows that are not those of the version they are said to be of."""


def read(connection: sqlalchemy.Connection) -> Iterator[Row]:
    """Yield every row that is kept, in the same order from the same state."""
    there = sqlalchemy.inspect(connection).get_table_names()
    for name in (each for each in KEPT if each in there):
        table = _reflected(connection, name)
        statement = select(table).order_by(*table.primary_key.columns)
        found = connection.execution_options(yield_per=_AT_ONCE).execute(statement)
        for row in found.mappings():
            yield name, {column: _plain(value) for column, value in row.items()}


def count(connection: sqlalchemy.Connection) -> int:
    """Count the rows of all tables but flags and turns, which every start writes."""
    there = set(sqlalchemy.inspect(connection).get_table_names())
    asked = [each for each in (*KEPT, *LEFT) if each in there and each not in _OF_STARTS]
    counting = sqlalchemy.func.count()
    return sum(
        connection.scalar(select(counting).select_from(sqlalchemy.table(name))) or 0
        for name in asked
    )


def replace(connection: sqlalchemy.Connection, revision: str, rows: Iterable[Row]) -> None:
    """Drop all that there is, make the tables of a version, fill them and bring them forward."""
    ours = {*schema.metadata.tables, "alembic_version"}
    there = ours & set(sqlalchemy.inspect(connection).get_table_names())
    old = sqlalchemy.MetaData()
    old.reflect(connection, only=sorted(there))
    old.drop_all(connection)
    migrations.upgrade(connection, to=revision)
    tables = {
        name: _reflected(connection, name)
        for name in KEPT
        if sqlalchemy.inspect(connection).has_table(name)
    }
    for name, group in itertools.groupby(rows, key=lambda row: row[0]):
        if name not in tables:
            raise Unfit("the backup holds a table that its version does not have")
        _fill(connection, tables[name], (row for _, row in group))
    migrations.upgrade(connection)


def _fill(
    connection: sqlalchemy.Connection, table: sqlalchemy.Table, rows: Iterable[Mapping[str, Any]]
) -> None:
    names = {column.name for column in table.columns}
    days = {column.name for column in table.columns if isinstance(column.type, Date)}
    statement = sqlalchemy.insert(table)
    waiting = iter(rows)
    while some := list(itertools.islice(waiting, _AT_ONCE)):
        if any(row.keys() != names for row in some):
            raise Unfit("the backup holds columns that its version does not have")
        try:
            connection.execute(statement, [_rich(row, days) for row in some])
        except sqlalchemy.exc.OperationalError:
            raise  # a full disk, a database that is gone: no fault of the backup
        except (ValueError, TypeError, sqlalchemy.exc.StatementError) as exc:
            raise Unfit("the backup holds values that no column takes") from exc


def revive(connection: sqlalchemy.Connection, seal: Seal, *, now: datetime) -> int:
    """Mark every record as one that came out of a backup; return how many there are.

    Wishes and flags that were good only for their time go. Raise `Unfit` where a record cannot be
    read; that every secret can be opened was seen before.
    """
    marked, after = 0, ""
    while page := _page_behind(connection, after):
        for row in page:
            _mark(connection, row, seal)
        marked, after = marked + len(page), page[-1].key
    asks = schema.asks
    connection.execute(sqlalchemy.delete(asks).where(asks.c.ask.not_in(sorted(revival.ASKS))))
    lasting = select(schema.flags).where(schema.flags.c.name.in_(sorted(revival.FLAGS)))
    told = {row.name: row.value for row in connection.execute(lasting)}
    connection.execute(sqlalchemy.delete(schema.flags))
    begun = {revival.RESTORED_AT: now.isoformat(), flags.RESYNC_WANTED: "yes"}
    for name, text in {**revival.FLAGS, **told, **begun}.items():
        flags.set_flag(connection, name, text)
    return marked


def is_sealed(connection: sqlalchemy.Connection) -> bool:
    """Tell whether any secret is stored."""
    statement = select(_records.c.key).where(_records.c.sealed.is_not(None)).limit(1)
    return connection.execute(statement).one_or_none() is not None


def unopened(connection: sqlalchemy.Connection, seal: Seal) -> int:
    """Count the records whose secrets no key opens."""
    statement = select(_records.c.sealed).where(_records.c.sealed.is_not(None))
    return sum(seal.position(each) is None for each in connection.execute(statement).scalars())


def _page_behind(connection: sqlalchemy.Connection, after: str) -> list[Any]:
    statement = (
        select(_records.c.key, _records.c.state, _records.c.sealed)
        .where(_records.c.key > after)
        .order_by(_records.c.key)
        .limit(_AT_ONCE)
    )
    return list(connection.execute(statement))


def _mark(connection: sqlalchemy.Connection, row: Any, seal: Seal) -> None:
    """Rewrite one record; what is sealed stays as it is."""
    try:
        secrets = json.loads(seal.open(row.sealed)) if row.sealed else {}
        record = revival.mark(codec.decode(row.state, secrets))
        state, _ = codec.encode(record)
        model.Key.parse(row.key)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Unfit("the backup holds a record that cannot be read") from exc
    connection.execute(
        sqlalchemy.update(_records)
        .where(_records.c.key == row.key)
        .values(state=state, settled_digest=record.settled_digest, next_at=record.next_at)
    )


def _reflected(connection: sqlalchemy.Connection, name: str) -> sqlalchemy.Table:
    return sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=connection)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _rich(row: Mapping[str, Any], days: set[str]) -> dict[str, Any]:
    return {
        name: date.fromisoformat(value) if name in days and value is not None else value
        for name, value in row.items()
    }
