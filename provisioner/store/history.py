"""Show what arrived and what came of it: ids, enums and our own words, never a body."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import select

from provisioner import model
from provisioner.store import database, prepared, schema

_deliveries, _outcomes = schema.deliveries, schema.outcomes
_ADD_DELIVERIES = prepared.Prepared(
    lambda _dialect: sqlalchemy.insert(_deliveries),
    ("id", "received_at", "wire", "subject", "status_code", "touched", "resync"),
)
_PRUNED_AT_ONCE = 1000
"""Deliveries wait while rows are dropped: a month of them goes in small transactions, with time
between them for whoever waits."""


class SqlHistory:
    """Implement `ports.History`."""

    def __init__(self, base: database.Database) -> None:
        self._database = base

    def deliveries(self, *, limit: int, before: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the newest deliveries first, those before a `row_id`."""
        statement = select(_deliveries).order_by(_deliveries.c.row_id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(_deliveries.c.row_id < before)
        with self._database.reading() as connection:
            rows = connection.execute(statement).mappings().all()
        return [{**row, "touched": tuple(row["touched"].split())} for row in rows]

    def outcomes(self, key: model.Key, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return a key's newest outcomes first."""
        statement = (
            select(_outcomes)
            .where(_outcomes.c.key == str(key))
            .order_by(_outcomes.c.row_id.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement).mappings().all()
        return [_shown(dict(row)) for row in rows]

    def newest_outcome(self) -> int:
        """Return the `row_id` of the newest outcome of all keys; what comes later has a higher one.

        Unlike its time that does not depend on whose clock is right.
        """
        statement = select(sqlalchemy.func.max(_outcomes.c.row_id))
        with self._database.reading() as connection:
            return connection.execute(statement).scalar() or 0

    def prune(self, before: datetime) -> int:
        """Drop a lot of what is older; return how many rows went."""
        pruned = self._prune(_deliveries, _deliveries.c.received_at, before)
        pruned += self._prune(_outcomes, _outcomes.c.at, before)
        self._database.tidy()
        return pruned

    def _prune(
        self, table: sqlalchemy.Table, moment: sqlalchemy.Column[datetime], before: datetime
    ) -> int:
        """Drop old rows of one table."""
        old = select(table.c.row_id).where(moment < before).limit(_PRUNED_AT_ONCE)
        old = old.with_for_update(skip_locked=True)  # every replica prunes
        statement = sqlalchemy.delete(table).where(table.c.row_id.in_(old))
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount


def add_deliveries(connection: sqlalchemy.Connection, deliveries: Sequence[model.Delivery]) -> None:
    """Note what arrived and which keys each delivery named."""
    _ADD_DELIVERIES.execute(
        connection,
        [
            (
                delivery.id,
                schema.microseconds(delivery.received_at),
                str(delivery.wire),
                delivery.subject,
                delivery.status_code,
                " ".join(map(str, _named(delivery.touched))),
                delivery.touched.resync,
            )
            for delivery in deliveries
        ],
    )


def add_outcome(connection: sqlalchemy.Connection, outcome: model.Outcome, at: datetime) -> None:
    """Note how a reconcile ended; texts lie in JSON, which holds whatever the portal sent."""
    connection.execute(
        sqlalchemy.insert(_outcomes).values(
            key=str(outcome.key),
            at=at,
            status=outcome.status,
            next_at=outcome.next_at,
            body=json.dumps({"actions": outcome.actions, "message": outcome.message}),
        )
    )


def _named(touched: model.Touched) -> list[model.Key]:
    return sorted(touched.keys | {producer for producer, _ in touched.ports})


def _shown(row: Mapping[str, Any]) -> Mapping[str, Any]:
    body = json.loads(row["body"])
    return {
        "row_id": row["row_id"],
        "at": row["at"],
        "status": row["status"],
        "actions": tuple(body["actions"]),
        "message": body["message"],
        "next_at": row["next_at"],
    }
