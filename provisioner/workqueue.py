"""Hand out keys to workers: waiting ones coalesce, running ones exclude.

A lease is a token and an expiry in the key's own row; whoever lost either has lost the key. Rows go
by the clock that all replicas share. What a worker is told is its own clock's, and begins before
the question was asked, so that it never takes a lease to last longer than the row says. The
statements are in `store.queueing`, because a delivery queues keys in its own transaction.
"""

from __future__ import annotations

import dataclasses
import itertools
import secrets
from collections.abc import Iterable, Iterator
from datetime import timedelta

from provisioner import errors, model, ports
from provisioner.store import history, queueing
from provisioner.store.database import Database

_TOUCHED_AT_ONCE = 500
"""Deliveries wait while keys are queued: those of a resync go in small transactions."""


class SqlWorkqueue:
    """Implement `ports.Workqueue` on the store's database."""

    def __init__(
        self, database: Database, *, clock: ports.Clock, lease_seconds: float = 30.0
    ) -> None:
        self._database = database
        self._clock = clock
        self._lease_for = timedelta(seconds=lease_seconds)

    def touch(
        self, keys: Iterable[model.Key], priority: model.Priority, *, ports: Iterable[str] = ()
    ) -> None:
        """Queue keys, or note on a running one that it must run once more."""
        touched_ports = frozenset(ports)
        for some in _batches(sorted(set(keys))):
            with self._database.writing() as connection:
                wanted = dict.fromkeys(some, touched_ports)
                queueing.touch(connection, wanted, priority, self._database.now(connection))

    def lease(self, owner: str) -> model.Lease | None:
        """Take the most urgent ready key; only the process that serves the store may."""
        if not self._database.is_serving:
            raise errors.StoreUnavailable("another process serves the store")
        token, asked_at = secrets.token_hex(16), self._clock()
        with self._database.writing() as connection:
            now = self._database.now(connection)
            until = now + self._lease_for
            taken = queueing.lease_next(connection, now=now, until=until, owner=owner, token=token)
            if taken is None:
                return None
            key, attempts = taken
            handed = queueing.hand_ports(connection, key)
        return model.Lease(
            key=model.Key.parse(key),
            token=token,
            expires_at=asked_at + self._lease_for,
            attempts=attempts,
            ports=handed,
        )

    def heartbeat(self, lease: model.Lease) -> model.Lease:
        """Extend a lease; raise `LeaseLost` where it is no longer ours."""
        asked_at = self._clock()
        with self._database.writing() as connection:
            now = self._database.now(connection)
            until = now + self._lease_for
            if not queueing.extend(connection, lease, now=now, until=until):
                raise queueing.lost(lease)
        return dataclasses.replace(lease, expires_at=asked_at + self._lease_for)

    def done(
        self, lease: model.Lease, outcome: model.Outcome, *, rest_seconds: float = 0.0
    ) -> None:
        """Give a key back for good (or once more, if touched meanwhile) and keep the outcome."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            rested_at = now + timedelta(seconds=rest_seconds)
            if not queueing.finish(connection, lease, now=now, rested_at=rested_at):
                raise queueing.lost(lease)
            history.add_outcome(connection, outcome, self._clock())

    def retry(
        self,
        lease: model.Lease,
        outcome: model.Outcome,
        delay_seconds: float,
        *,
        rest_seconds: float = 0.0,
    ) -> None:
        """Give a key back to be tried again after a delay; an event does not wait for it."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            later = now + timedelta(seconds=delay_seconds)
            rested_at = now + timedelta(seconds=rest_seconds)
            if not queueing.postpone(
                connection, lease, now=now, ready_at=later, rested_at=rested_at
            ):
                raise queueing.lost(lease)
            history.add_outcome(connection, outcome, self._clock())

    def reap(self, *, all_owners: bool = False) -> int:
        """Free leases that have run out; at the start of a single-process store, all of them.

        Where other processes may serve too, their leases are left to run out.
        """
        every = all_owners and self._database.single_process and self._database.is_serving
        with self._database.writing() as connection:
            return queueing.free(connection, None if every else self._database.now(connection))

    def depth(self) -> tuple[int, int]:
        """Count (waiting, running) keys."""
        with self._database.reading() as connection:
            return queueing.depth(connection)


def _batches(keys: Iterable[model.Key]) -> Iterator[list[model.Key]]:
    """Cut keys into batches."""
    remaining = iter(keys)
    while batch := list(itertools.islice(remaining, _TOUCHED_AT_ONCE)):
        yield batch
