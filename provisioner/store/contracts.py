"""Keep one row an output port: where it lies, what was last seen of it, when to look again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import select

from provisioner import model
from provisioner.store import codec, database, queueing, schema

_contracts, _links = schema.contracts, schema.links
Turn = Callable[[str, bool, datetime], datetime]


class SqlContracts:
    """Implement `ports.Contracts`, and `portwatch.SeenPorts` on the same table."""

    def __init__(self, base: database.Database) -> None:
        self._database = base

    def register(
        self,
        producer: model.Key,
        outputs: Iterable[model.SeenPort],
        lease: model.Lease,
        *,
        seen_before: datetime,
    ) -> None:
        """Store all output ports of a producer; one that is new or elsewhere begins as unknown.

        Those that were last seen before then are to be looked at now.
        """
        wanted = {port.port_id: port for port in outputs}
        with self._database.writing() as connection:
            now = self._database.now(connection)
            queueing.fence(connection, lease, now)
            held = _places(connection, producer)
            stale = held.keys() - wanted.keys()
            fresh = [
                port for _, port in sorted(wanted.items()) if held.get(port.port_id) != _place(port)
            ]
            if stale:
                _delete(connection, producer, stale)
            if fresh:
                _put(connection, fresh, now)
            _hurry(connection, producer, seen_before, now)

    def of(self, port_ids: Collection[str]) -> Mapping[str, model.SeenPort]:
        """Return what was last seen of ports, by id; those never registered are missing."""
        if not port_ids:
            return {}
        statement = select(_contracts.c.body).where(_contracts.c.port_id.in_(sorted(port_ids)))
        with self._database.reading() as connection:
            found = map(_read, connection.execute(statement).scalars())
            return {port.port_id: port for port in found}

    def of_producer(self, producer: model.Key) -> tuple[model.SeenPort, ...]:
        """Return what was last seen of a producer's ports, by namespace."""
        statement = select(_contracts.c.body).where(_contracts.c.producer == str(producer))
        with self._database.reading() as connection:
            found = map(_read, connection.execute(statement).scalars())
            return tuple(sorted(found, key=lambda port: port.port_namespace))

    def claim(self, *, limit: int, turn: Turn) -> tuple[model.SeenPort, ...]:
        """Take the ports whose time has come, those that wait longest first.

        From now on others leave them alone until their next turn: `turn` is told the port's id,
        whether somebody has access to it, and the present.
        """
        with self._database.writing() as connection:
            now = self._database.now(connection)
            due = _due(connection, now, limit)
            if due:
                connection.execute(
                    _at_next(),
                    [
                        {"id_": row.port_id, "at": turn(row.port_id, bool(row.consumed), now)}
                        for row in due
                    ],
                )
        return tuple(_read(row.body) for row in due)

    def give_back(self, delays: Mapping[str, float]) -> None:
        """Let claimed ports be due in so many seconds, by id, unless they are before that."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            rows = [
                {"id_": port_id, "at": now + timedelta(seconds=seconds)}
                for port_id, seconds in sorted(delays.items())
            ]
            statement = _at_next().where(
                _contracts.c.next_at > sqlalchemy.bindparam("at", type_=schema.Moment)
            )
            if rows:
                connection.execute(statement, rows)

    def save(self, seen: Sequence[model.SeenPort], touched: Iterable[model.Key]) -> None:
        """Note what was seen and queue whom it concerns, in one transaction.

        A port that lies elsewhere by now, or is gone, stays as it is.
        """
        with self._database.writing() as connection:
            now = self._database.now(connection)
            wanted = dict.fromkeys(touched, ())
            queueing.touch(connection, wanted, model.Priority.RESYNC, now)
            if seen:
                # In one order everywhere: two replicas never wait for each other.
                ordered = sorted(seen, key=lambda port: port.port_id)
                connection.execute(_note(), [_row(port) for port in ordered])

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        """Return everyone who has access to a port, as far as the portal's word goes."""
        statement = select(_links.c.consumer).where(
            _links.c.port_id == port_id, _links.c.status == model.LinkStatus.APPROVED
        )
        with self._database.reading() as connection:
            return frozenset(map(model.Key.parse, connection.execute(statement).scalars()))

    def counts(self) -> Mapping[str, int]:
        """Count ports by state."""
        statement = select(_contracts.c.state, sqlalchemy.func.count()).group_by(_contracts.c.state)
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}


def _places(connection: sqlalchemy.Connection, producer: model.Key) -> dict[str, str]:
    """Read where the ports of a producer lie, and hold them all.

    In the one order that `save` has too: what is changed of several of them afterwards comes in
    any, and two replicas would wait for each other.
    """
    statement = (
        select(_contracts.c.port_id, _contracts.c.place)
        .where(_contracts.c.producer == str(producer))
        .order_by(_contracts.c.port_id)
        .with_for_update()
    )
    return {row.port_id: row.place for row in connection.execute(statement)}


def _delete(
    connection: sqlalchemy.Connection, producer: model.Key, port_ids: Collection[str]
) -> None:
    """Drop some ports of a producer."""
    connection.execute(
        sqlalchemy.delete(_contracts).where(
            _contracts.c.producer == str(producer), _contracts.c.port_id.in_(sorted(port_ids))
        )
    )


def _put(
    connection: sqlalchemy.Connection, outputs: Iterable[model.SeenPort], now: datetime
) -> None:
    """Write ports of which nothing was seen yet, whether they are new or not."""
    new = database.insert(connection, _contracts)
    columns = [column.name for column in _contracts.columns if column.name != "port_id"]
    statement = new.on_conflict_do_update(
        index_elements=[_contracts.c.port_id],
        set_={name: new.excluded[name] for name in columns},
    )
    unseen = [dataclasses.replace(port, state=model.PortState.UNKNOWN) for port in outputs]
    rows = [
        {
            "port_id": port.port_id,
            "producer": str(port.producer),
            "place": _place(port),
            "next_at": now,
            "read_at": None,
            "state": port.state,
            "body": codec.dumps(port),
        }
        for port in unseen
    ]
    connection.execute(statement, rows)


def _hurry(
    connection: sqlalchemy.Connection, producer: model.Key, seen_before: datetime, now: datetime
) -> None:
    """Let the ports of a producer be due that were not looked at since then."""
    connection.execute(
        sqlalchemy.update(_contracts)
        .where(
            _contracts.c.producer == str(producer),
            _contracts.c.read_at < seen_before,
            _contracts.c.next_at > now,
        )
        .values(next_at=now)
    )


def _due(
    connection: sqlalchemy.Connection, now: datetime, limit: int
) -> Sequence[sqlalchemy.Row[Any]]:
    """Read the ports whose time has come, each held until the transaction ends."""
    consumed = (
        select(_links.c.port_id)
        .where(
            _links.c.port_id == _contracts.c.port_id,
            _links.c.status == model.LinkStatus.APPROVED,
        )
        .exists()
    )
    statement = (
        select(_contracts.c.port_id, _contracts.c.body, consumed.label("consumed"))
        .where(_contracts.c.next_at <= now)
        .order_by(_contracts.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=_contracts)
    )
    return connection.execute(statement).all()


def _at_next() -> sqlalchemy.Update:
    """Build the statement that gives a port its next turn."""
    return (
        sqlalchemy.update(_contracts)
        .where(_contracts.c.port_id == sqlalchemy.bindparam("id_"))
        .values(next_at=sqlalchemy.bindparam("at", type_=schema.Moment))
    )


def _note() -> sqlalchemy.Update:
    """Build the statement that notes what was seen of a port where it still lies."""
    return (
        sqlalchemy.update(_contracts)
        .where(
            _contracts.c.port_id == sqlalchemy.bindparam("id_"),
            _contracts.c.place == sqlalchemy.bindparam("where_"),
        )
        .values(
            read_at=sqlalchemy.bindparam("seen_at", type_=schema.Moment),
            state=sqlalchemy.bindparam("state_"),
            body=sqlalchemy.bindparam("body_"),
        )
    )


def _row(port: model.SeenPort) -> dict[str, Any]:
    return {
        "id_": port.port_id,
        "where_": _place(port),
        "seen_at": port.read_at,
        "state_": port.state,
        "body_": codec.dumps(port),
    }


def _place(port: model.SeenPort) -> str:
    """Name where a port lies; no namespace has a `/` in it."""
    return f"{port.producer_namespace}/{port.port_namespace}"


def _read(body: str) -> model.SeenPort:
    return codec.loads(model.SeenPort, body)
