"""Keep one row a product: what we ask for as columns, the rest as JSON, secrets sealed."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy
from sqlalchemy import case, select

from provisioner import errors, model
from provisioner.seal import Seal
from provisioner.store import codec, database, queueing, schema

_records = schema.records


class SqlRecords:
    """Implement `ports.Records`; lists come without secrets, single records with them."""

    def __init__(self, base: database.Database, seal: Seal) -> None:
        self._database = base
        self._seal = seal

    def load(self, key: model.Key) -> model.Record | None:
        """Return the record of a key, its secrets opened."""
        with self._database.reading() as connection:
            found = _by_key(connection, key)
        return None if found is None else self._opened(*found)

    def by_namespace(self, namespace: str) -> model.Record | None:
        """Return the record of a namespace, its secrets opened.

        A product's before an exploration's, the living before the released.
        """
        with self._database.reading() as connection:
            found = _by_namespace(connection, namespace)
        return None if found is None else self._opened(*found)

    def known(self) -> tuple[model.Record, ...]:
        """Return every record by namespace, without secrets: they cannot be saved."""
        with self._database.reading() as connection:
            states = _states(connection)
        return tuple(codec.decode(state, {}) for state in states)

    def page(self, *, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]:
        """Return records by key, those behind `after`, without secrets: they cannot be saved."""
        with self._database.reading() as connection:
            return tuple(codec.decode(state, {}) for state in _page(connection, limit, after))

    def digests(self) -> Mapping[model.Key, str]:
        """Return the settled digest of every product not yet released."""
        with self._database.reading() as connection:
            return _digests(connection)

    def due(self, now: datetime) -> tuple[model.Key, ...]:
        """Return the keys whose `next_at` has come, the oldest first.

        Not those that wait or run already: they are asked about again once they are done.
        """
        with self._database.reading() as connection:
            return _due(connection, now)

    def save(self, record: model.Record, lease: model.Lease) -> None:
        """Write a record; raise `LeaseLost` where the lease is no longer ours."""
        if record.key != lease.key:
            raise errors.LeaseLost("the lease is for another key", key=str(lease.key))
        state, secrets = codec.encode(record)
        sealed = self._seal.seal(json.dumps(secrets)) if secrets else None
        with self._database.writing() as connection:
            queueing.fence(connection, lease, self._database.now(connection))
            _put(connection, record, state=state, sealed=sealed)

    def confirm(self, lease: model.Lease) -> None:
        """Raise `LeaseLost` where the lease is no longer ours."""
        with self._database.reading() as connection:
            queueing.fence(connection, lease, self._database.now(connection))

    def _opened(self, state: str, sealed: str | None) -> model.Record:
        secrets = json.loads(self._seal.open(sealed)) if sealed else {}
        return codec.decode(state, secrets)


def all_sealed(connection: sqlalchemy.Connection) -> list[str]:
    """Return every sealed value."""
    statement = select(_records.c.sealed).where(_records.c.sealed.is_not(None))
    return list(connection.execute(statement).scalars())


def _by_key(connection: sqlalchemy.Connection, key: model.Key) -> tuple[str, str | None] | None:
    statement = select(_records.c.state, _records.c.sealed).where(_records.c.key == str(key))
    row = connection.execute(statement).one_or_none()
    return None if row is None else (row.state, row.sealed)


def _by_namespace(
    connection: sqlalchemy.Connection, namespace: str
) -> tuple[str, str | None] | None:
    """Find who has a namespace: an exploration may have a product's, and a dead one its heir's."""
    statement = (
        select(_records.c.state, _records.c.sealed)
        .where(_records.c.namespace == namespace)
        .order_by(
            case((_records.c.kind == model.Kind.PRODUCT, 0), else_=1),
            case((_records.c.released_at.is_(None), 0), else_=1),
            case((_records.c.phase == model.Phase.GONE, 1), else_=0),
            _records.c.key,
        )
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else (row.state, row.sealed)


def _states(connection: sqlalchemy.Connection) -> Sequence[str]:
    """Read every record's JSON, by namespace."""
    statement = select(_records.c.state).order_by(_records.c.namespace, _records.c.key)
    return connection.execute(statement).scalars().all()


def _page(
    connection: sqlalchemy.Connection, limit: int, after: model.Key | None
) -> sqlalchemy.ScalarResult[str]:
    """Read the JSON of the records behind a key."""
    statement = select(_records.c.state).order_by(_records.c.key).limit(limit)
    if after is not None:
        statement = statement.where(_records.c.key > str(after))
    return connection.execute(statement).scalars()


def _digests(connection: sqlalchemy.Connection) -> Mapping[model.Key, str]:
    """Read what resync compares, without the JSON."""
    statement = select(_records.c.key, _records.c.settled_digest).where(
        _records.c.released_at.is_(None)
    )
    return {model.Key.parse(key): digest for key, digest in connection.execute(statement)}


def _due(connection: sqlalchemy.Connection, now: datetime) -> tuple[model.Key, ...]:
    """Read the keys whose time has come and that are not in the queue."""
    queued = select(schema.queue.c.key).where(schema.queue.c.key == _records.c.key).exists()
    statement = (
        select(_records.c.key)
        .where(_records.c.next_at <= now, ~queued)
        .order_by(_records.c.next_at, _records.c.key)
    )
    return tuple(model.Key.parse(key) for key in connection.execute(statement).scalars())


def _put(
    connection: sqlalchemy.Connection, record: model.Record, *, state: str, sealed: str | None
) -> None:
    """Write a row, whether it is new or not."""
    row = {
        "key": str(record.key),
        "kind": record.key.kind,
        "namespace": record.namespace,
        "phase": record.phase,
        "settled_digest": record.settled_digest,
        "next_at": record.next_at,
        "verified_at": record.verified_at,
        "released_at": record.released_at,
        "sealed": sealed,
        "state": state,
    }
    connection.execute(_upsert(connection.dialect.name), row)


@functools.cache
def _upsert(dialect: str) -> database.Insert:
    """Build the upsert of a row, once: every step of a run waits for it."""
    new = database.insert_into(_records, dialect)
    columns = [column.name for column in _records.columns if column.name != "key"]
    return new.on_conflict_do_update(
        index_elements=[_records.c.key],
        set_={name: new.excluded[name] for name in columns},
    )
