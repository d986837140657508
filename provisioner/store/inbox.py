"""Take in deliveries: what arrived and what it touches, in one durable transaction.

However many deliveries come in one batch, they cost one commit.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy

from provisioner import model
from provisioner.store import database, flags, history, links, queueing


class SqlInbox:
    """Implement `ports.Inbox`."""

    def __init__(self, base: database.Database) -> None:
        self._database = base

    def accept(self, deliveries: Sequence[model.Delivery]) -> bool:
        """Store deliveries and queue what they touch; on disk when this returns."""
        if not deliveries:
            return False
        with self._database.writing_often() as connection:
            wanted, resync = _touched(connection, deliveries)
            now = self._database.now(connection)
            with self._database.ending(connection):
                looked_for = queueing.touch(connection, wanted, model.Priority.EVENT, now)
                history.add_deliveries(connection, deliveries)
                if resync:
                    flags.set_flag(connection, flags.RESYNC_WANTED, "yes")
        return looked_for


def _touched(
    connection: sqlalchemy.Connection, deliveries: Sequence[model.Delivery]
) -> tuple[dict[model.Key, set[str]], bool]:
    """Return every touched key with its touched ports, and whether a resync is wanted."""
    touched = [delivery.touched for delivery in deliveries]
    wanted: dict[model.Key, set[str]] = {key: set() for each in touched for key in each.keys}
    touched_ports = {port for each in touched for port in each.ports}
    resync = any(each.resync for each in touched)
    link_ids = {link for each in touched for link in each.links}
    if link_ids:
        found = links.by_ids(connection, link_ids)
        resync = resync or len(found) < len(link_ids)
        for consumer, producer, port_id in found.values():
            wanted.setdefault(consumer, set())
            touched_ports.add((producer, port_id))
    for producer, port_id in touched_ports:
        wanted.setdefault(producer, set()).add(port_id)
    if touched_ports:
        for consumer in links.consumers_of(connection, touched_ports):
            wanted.setdefault(consumer, set())
    return wanted, resync
