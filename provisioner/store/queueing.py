"""Hold the statements of the queue, each named: the inbox and the workqueue share them.

One row a key. A row without a token waits, one with a token runs, and `again` holds the most
urgent touch since the run began. A row that waits for a later moment failed, or rests if it counts
no failure. Ports lie beside their key; `handed` ones are the lease's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    case,
    or_,
    select,
    type_coerce,
)

from provisioner import errors, model
from provisioner.domain import backoff
from provisioner.store import database, prepared, schema, wakeups

_EVENT, _RESYNC = 0, 1
_URGENCY = {model.Priority.EVENT: _EVENT, model.Priority.RESYNC: _RESYNC}
_FREE: dict[str, Any] = {"token": None, "owner": None, "leased_until": None, "again": None}
_LONGEST_REST_MICROSECONDS = int(backoff.LONGEST_REST_SECONDS * 1_000_000)
_queue, _ports = schema.queue, schema.queue_ports
_other = _queue.alias("other")  # asked within an UPDATE of the same table


def touch(
    connection: sqlalchemy.Connection,
    wanted: Mapping[model.Key, Iterable[str]],
    priority: model.Priority,
    now: datetime,
) -> bool:
    """Queue keys with their ports, or note on running ones that they must run once more.

    A touch makes a row more urgent, never less; an event alone ends a wait for a retry, and nothing
    a rest. Keys are written in order, and before all else in a transaction, so that two writers can
    never wait for each other. Return whether workers have to look: those of other processes hear
    of it with the commit.
    """
    urgency, ready_at = _URGENCY[priority], schema.microseconds(now)
    keys = sorted(wanted)
    rows = [(str(key), urgency, ready_at, 0) for key in keys]
    looked_for = bool(rows) and _TOUCH.execute(connection, rows) > 0
    ports = [(str(key), port, False) for key in keys for port in sorted(wanted[key])]
    if ports:
        _ADD_PORT.execute(connection, ports)
    # Where several processes write, a look passes over rows that somebody is writing just then,
    # so whoever wrote one, even if it changed nothing, has it looked for again.
    looked_for = looked_for or (bool(rows) and connection.dialect.name == "postgresql")
    if looked_for:
        wakeups.announce(connection)
    return looked_for


def _touch(dialect: str) -> database.Insert:
    """Build the upsert of one key; a touch that changes nothing writes nothing."""
    new = database.insert_into(_queue, dialect)
    priority, now = new.excluded.priority, new.excluded.ready_at
    waits, runs = _queue.c.token.is_(None), _queue.c.token.is_not(None)
    left = type_coerce(_queue.c.ready_at, BigInteger) - type_coerce(now, BigInteger)
    # Longer than any rest: the clock was set back.
    failed = or_(_queue.c.attempts > 0, left > _LONGEST_REST_MICROSECONDS)
    hurries = and_(waits, priority == _EVENT, _queue.c.ready_at > now, failed)
    repeats = and_(runs, or_(_queue.c.again.is_(None), priority < _queue.c.again))
    rises = priority < _queue.c.priority
    return new.on_conflict_do_update(
        index_elements=[_queue.c.key],
        set_={
            "priority": case((rises, priority), else_=_queue.c.priority),
            "ready_at": case((hurries, now), else_=_queue.c.ready_at),
            "again": case((repeats, priority), else_=_queue.c.again),
        },
        where=or_(hurries, repeats, rises),
    )


def _add_port(dialect: str) -> database.Insert:
    """Build the upsert of one port of a key."""
    new = database.insert_into(_ports, dialect)
    return new.on_conflict_do_update(
        index_elements=[_ports.c.key, _ports.c.port_id],
        set_={"handed": new.excluded.handed},
    )


_TOUCH = prepared.Prepared(_touch, ("key", "priority", "ready_at", "attempts"))
_ADD_PORT = prepared.Prepared(_add_port, ("key", "port_id", "handed"))


def lease_next(
    connection: sqlalchemy.Connection, *, now: datetime, until: datetime, owner: str, token: str
) -> tuple[str, int] | None:
    """Take the oldest ready event, or else the oldest ready resync: (key, attempts).

    Asked by priority, so that keys which wait for a retry are never walked over.
    """
    given = {"now": now, "until": until, "by": owner, "with": token}
    taken = connection.execute(_LEASE, given).one_or_none()
    return None if taken is None else (taken.key, taken.attempts)


def _ready(priority: int) -> ColumnElement[str]:
    return (
        _first_waiting(priority, _other.c.key)
        .where(_other.c.ready_at <= bindparam("now"))
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def _first_waiting(priority: int, column: ColumnElement[Any]) -> sqlalchemy.Select[Any]:
    return (
        select(column)
        .where(_other.c.token.is_(None), _other.c.priority == priority)
        .order_by(_other.c.ready_at, _other.c.key)
        .limit(1)
    )


# Built once: workers look each time that something may be ready, and building took longer.
_LEASE = (
    sqlalchemy.update(_queue)
    .where(_queue.c.key == sqlalchemy.func.coalesce(_ready(_EVENT), _ready(_RESYNC)))
    .values(
        token=bindparam("with"),
        owner=bindparam("by"),
        leased_until=bindparam("until"),
        again=None,
    )
    .returning(_queue.c.key, _queue.c.attempts)
)


def hand_ports(connection: sqlalchemy.Connection, key: str) -> frozenset[str]:
    """Give a key's ports to its lease, those of a run that failed among them."""
    taken = connection.execute(
        sqlalchemy.update(_ports)
        .where(_ports.c.key == key)
        .values(handed=True)
        .returning(_ports.c.port_id)
    )
    return frozenset(taken.scalars())


def fence(connection: sqlalchemy.Connection, lease: model.Lease, now: datetime) -> None:
    """Make sure that a lease still holds until the transaction ends; else raise `LeaseLost`."""
    held = connection.execute(
        select(_queue.c.key).where(_is_held(lease, now)).with_for_update()
    ).one_or_none()
    if held is None:
        raise lost(lease)


def extend(
    connection: sqlalchemy.Connection, lease: model.Lease, *, now: datetime, until: datetime
) -> bool:
    """Extend a lease; False where it no longer holds."""
    return _changes(
        connection,
        sqlalchemy.update(_queue).where(_is_held(lease, now)).values(leased_until=until),
    )


def finish(
    connection: sqlalchemy.Connection, lease: model.Lease, *, now: datetime, rested_at: datetime
) -> bool:
    """Drop a key that ran, or let it rest and run again if touched meanwhile; False if not held.

    Its ports go with the row; where it stays, those that were handed out go.
    """
    held = _is_held(lease, now)
    untouched = sqlalchemy.delete(_queue).where(held, _queue.c.again.is_(None))
    if _changes(connection, untouched):
        return True
    again = (
        sqlalchemy.update(_queue)
        .where(held)
        .values({**_FREE, "priority": _queue.c.again, "ready_at": rested_at, "attempts": 0})
    )
    if not _changes(connection, again):
        return False
    connection.execute(
        sqlalchemy.delete(_ports).where(_ports.c.key == str(lease.key), _ports.c.handed)
    )
    return True


def postpone(
    connection: sqlalchemy.Connection,
    lease: model.Lease,
    *,
    now: datetime,
    ready_at: datetime,
    rested_at: datetime,
) -> bool:
    """Queue a key that failed for later; where an event came let it rest; False if not held."""
    event = _queue.c.again == _EVENT
    return _changes(
        connection,
        sqlalchemy.update(_queue)
        .where(_is_held(lease, now))
        .values(
            {
                **_FREE,
                "attempts": case((event, 0), else_=_queue.c.attempts + 1),
                "ready_at": case(
                    (event, sqlalchemy.literal(rested_at, schema.Moment)),
                    else_=sqlalchemy.literal(ready_at, schema.Moment),
                ),
            }
        ),
    )


def free(connection: sqlalchemy.Connection, expired_at: datetime | None) -> int:
    """Let leases that ended by a moment wait again, first in line; with None, every lease.

    A row that somebody is writing is left for the next time.
    """
    ended = select(_other.c.key).where(_other.c.token.is_not(None))
    if expired_at is not None:
        ended = ended.where(_other.c.leased_until <= expired_at)
    statement = (
        sqlalchemy.update(_queue)
        .where(_queue.c.key.in_(ended.with_for_update(skip_locked=True)))
        .values(_FREE)
    )
    return connection.execute(statement).rowcount


def depth(connection: sqlalchemy.Connection) -> tuple[int, int]:
    """Count (waiting, running) keys."""
    count = select(sqlalchemy.func.count()).select_from(_queue)
    waiting = connection.scalar(count.where(_queue.c.token.is_(None)))
    running = connection.scalar(count.where(_queue.c.token.is_not(None)))
    return waiting or 0, running or 0


def is_worked_on(connection: sqlalchemy.Connection, now: datetime) -> bool:
    """Tell whether anybody holds a lease that has not ended."""
    held = select(_queue.c.key).where(_queue.c.leased_until > now).limit(1)
    return connection.execute(held).one_or_none() is not None


def lost(lease: model.Lease) -> errors.LeaseLost:
    """Say that another worker may have the key by now."""
    return errors.LeaseLost("the lease is no longer ours", key=str(lease.key))


def _is_held(lease: model.Lease, now: datetime) -> ColumnElement[bool]:
    return and_(
        _queue.c.key == str(lease.key),
        _queue.c.token == lease.token,
        _queue.c.leased_until > now,
    )


def _changes(connection: sqlalchemy.Connection, statement: Any) -> bool:
    """Tell whether a statement changed a row."""
    changed: int = connection.execute(statement).rowcount
    return changed > 0
