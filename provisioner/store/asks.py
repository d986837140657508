"""Remember what a person asked for, beside the queue: both are written in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import sqlalchemy
from sqlalchemy import and_, or_, select

from provisioner import model, ports
from provisioner.store import database, queueing, schema

_asks = schema.asks


class SqlAsks:
    """Implement `ports.Asks`."""

    def __init__(self, base: database.Database, *, clock: ports.Clock) -> None:
        self._database = base
        self._clock = clock

    def ask(self, keys: Iterable[model.Key], what: model.Ask) -> None:
        """Note the wish and queue the keys, durable on return; asked again, the time moves on."""
        asked_at, wanted = self._clock(), sorted(set(keys))
        with self._database.writing() as connection:
            now = self._database.now(connection)
            queueing.touch(connection, dict.fromkeys(wanted, ()), model.Priority.EVENT, now)
            _note(connection, [str(key) for key in wanted], what, asked_at)

    def of(self, key: model.Key) -> Mapping[model.Ask, datetime]:
        """Return what was asked of a key, and when."""
        statement = select(_asks.c.ask, _asks.c.asked_at).where(_asks.c.key == str(key))
        with self._database.reading() as connection:
            return {model.Ask(row.ask): row.asked_at for row in connection.execute(statement)}

    def forget(self, done: Mapping[model.Ask, datetime], lease: model.Lease) -> None:
        """Forget what was asked of the leased key until then; what came later stays."""
        if not done:
            return
        with self._database.writing() as connection:
            queueing.fence(connection, lease, self._database.now(connection))
            _forget(connection, lease.key, done)

    def waiting(self, what: model.Ask) -> frozenset[model.Key]:
        """Return the keys of which it is still asked."""
        statement = select(_asks.c.key).where(_asks.c.ask == what)
        with self._database.reading() as connection:
            return frozenset(
                model.Key.parse(key) for key in connection.execute(statement).scalars()
            )


def _note(
    connection: sqlalchemy.Connection, keys: list[str], what: model.Ask, asked_at: datetime
) -> None:
    """Write one row a key and wish."""
    new = database.insert(connection, _asks)
    statement = new.on_conflict_do_update(
        index_elements=[_asks.c.key, _asks.c.ask], set_={"asked_at": new.excluded.asked_at}
    )
    rows = [{"key": key, "ask": what, "asked_at": asked_at} for key in keys]
    if rows:
        connection.execute(statement, rows)


def _forget(
    connection: sqlalchemy.Connection, key: model.Key, done: Mapping[model.Ask, datetime]
) -> None:
    """Delete the wishes of a key that are no younger than what was done."""
    old = [and_(_asks.c.ask == ask, _asks.c.asked_at <= at) for ask, at in done.items()]
    connection.execute(sqlalchemy.delete(_asks).where(_asks.c.key == str(key), or_(*old)))
