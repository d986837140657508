"""Remember every link of every consumer, of any status: an approve call names no consumer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy
from sqlalchemy import select

from provisioner import model
from provisioner.store import database, queueing, schema

_links = schema.links


class SqlLinks:
    """Implement `ports.Links`."""

    def __init__(self, base: database.Database) -> None:
        self._database = base

    def replace(self, consumer: model.Key, links: Iterable[model.Link], lease: model.Lease) -> None:
        """Store all links of a consumer; raise `LeaseLost` where the lease is no longer ours.

        Where nothing changed, nothing is written, nor is the lease looked at.
        """
        wanted = {link.id: _row(consumer, link) for link in links}
        with self._database.reading() as connection:
            if _of_consumer(connection, consumer) == wanted:
                return
        with self._database.writing() as connection:
            queueing.fence(connection, lease, self._database.now(connection))
            stored = _of_consumer(connection, consumer)
            stale = [key for key, row in stored.items() if wanted.get(key) != row]
            fresh = [row for key, row in wanted.items() if stored.get(key) != row]
            if stale:
                _delete(connection, consumer, stale)
            if fresh:
                connection.execute(sqlalchemy.insert(_links), fresh)

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        """Return everyone with a link on the port."""
        with self._database.reading() as connection:
            return _consumers_of_ports(connection, [port_id])


def consumers_of(
    connection: sqlalchemy.Connection, touched: Collection[tuple[model.Key, str]]
) -> frozenset[model.Key]:
    """Read everyone with a link on one of the (producer, port id); `*` is every port of his.

    A producer that was deleted lists no ports any more: then only these links name its consumers.
    """
    whole = [producer.id for producer, port_id in touched if port_id == "*"]
    statement = select(_links.c.consumer).where(_links.c.producer_id.in_(whole))
    of_producers = connection.execute(statement).scalars() if whole else ()
    return frozenset(model.Key.parse(key) for key in of_producers) | _consumers_of_ports(
        connection, [port_id for _, port_id in touched if port_id != "*"]
    )


def _consumers_of_ports(
    connection: sqlalchemy.Connection, port_ids: Collection[str]
) -> frozenset[model.Key]:
    """Read everyone with a link on one of the ports."""
    statement = select(_links.c.consumer).where(_links.c.port_id.in_(port_ids))
    return frozenset(model.Key.parse(key) for key in connection.execute(statement).scalars())


def by_ids(
    connection: sqlalchemy.Connection, link_ids: Collection[str]
) -> dict[str, tuple[model.Key, model.Key, str]]:
    """Read (consumer, producer, port id) of the links that are known."""
    statement = select(
        _links.c.id, _links.c.consumer, _links.c.producer_id, _links.c.port_id
    ).where(_links.c.id.in_(link_ids))
    return {
        row.id: (model.Key.parse(row.consumer), model.Key.product(row.producer_id), row.port_id)
        for row in connection.execute(statement)
    }


def _of_consumer(
    connection: sqlalchemy.Connection, consumer: model.Key
) -> dict[str, Mapping[str, Any]]:
    """Read what is stored of a consumer, by link id."""
    statement = select(_links).where(_links.c.consumer == str(consumer))
    return {row["id"]: dict(row) for row in connection.execute(statement).mappings()}


def _delete(
    connection: sqlalchemy.Connection, consumer: model.Key, link_ids: Collection[str]
) -> None:
    """Drop some links of a consumer."""
    connection.execute(
        sqlalchemy.delete(_links).where(
            _links.c.consumer == str(consumer), _links.c.id.in_(link_ids)
        )
    )


def _row(consumer: model.Key, link: model.Link) -> dict[str, Any]:
    return {
        "consumer": str(consumer),
        "id": link.id,
        "producer_id": link.producer_id,
        "port_id": link.port_id,
        "status": str(link.status),
        "valid_from": link.valid_from,
        "valid_until": link.valid_until,
        "mode": link.mode,
    }
