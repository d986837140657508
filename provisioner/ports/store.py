"""Keep what must outlive the process: deliveries, the queue, records, wishes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from provisioner import model


class Inbox(Protocol):
    """Take in deliveries."""

    def accept(self, deliveries: Sequence[model.Delivery]) -> bool:
        """Store deliveries and queue what they touch in one durable transaction.

        Consumers with a link of any status on a touched port are queued too; a link id that is
        unknown, like `Touched.resync`, asks for a resync. Tell whether workers have to look: False
        only where all that was touched waits already, or is to run once more, and is found.
        """


class Workqueue(Protocol):
    """Hand out keys: waiting ones coalesce, running ones exclude."""

    def touch(
        self, keys: Iterable[model.Key], priority: model.Priority, *, ports: Iterable[str] = ()
    ) -> None:
        """Queue keys, or note on a running one that it must run once more."""

    def lease(self, owner: str) -> model.Lease | None:
        """Take the most urgent ready key, if any."""

    def heartbeat(self, lease: model.Lease) -> model.Lease:
        """Extend a lease; raise `LeaseLost` where it is no longer ours."""

    def done(
        self, lease: model.Lease, outcome: model.Outcome, *, rest_seconds: float = 0.0
    ) -> None:
        """Give a key back for good and keep the outcome.

        If touched meanwhile it runs once more, after a rest that no touch cuts short.
        """

    def retry(
        self,
        lease: model.Lease,
        outcome: model.Outcome,
        delay_seconds: float,
        *,
        rest_seconds: float = 0.0,
    ) -> None:
        """Give a key back to be tried again after a delay; a later touch does not wait for it.

        If an event came meanwhile, the delay is the rest, which no touch cuts short.
        """

    def reap(self, *, all_owners: bool = False) -> int:
        """Free leases that have run out; at the start of a single-process store, all of them."""

    def depth(self) -> tuple[int, int]:
        """Count (waiting, running) keys."""


class WakeUps(Protocol):
    """Hear from other processes that something was queued."""

    @property
    def hears(self) -> bool:
        """Tell whether nothing can be queued now without being heard of."""

    @property
    def alive(self) -> bool:
        """Tell whether it still does, or tries, as it was started."""

    def start(self, on_wake: Callable[[], None]) -> None:
        """Call back, from a thread of its own, whenever there may be something new."""

    def close(self) -> None:
        """Stop listening."""


class Records(Protocol):
    """Keep what we know of each product, secrets sealed; every write is fenced by a lease.

    What one module alone asks of the same store stands there: `resync.Digests`, and
    `admin.ProductRecords` for a person who looks.
    """

    def load(self, key: model.Key) -> model.Record | None:
        """Return the record of a key."""

    def by_namespace(self, namespace: str) -> model.Record | None:
        """Return the record of a namespace: products first, the living before the released."""

    def save(self, record: model.Record, lease: model.Lease) -> None:
        """Write a record; raise `LeaseLost` where the lease is no longer ours."""

    def confirm(self, lease: model.Lease) -> None:
        """Raise `LeaseLost` where the lease is no longer ours."""

    def known(self) -> tuple[model.Record, ...]:
        """Return every record, by namespace; without secrets, so they cannot be saved."""

    def due(self, now: datetime) -> tuple[model.Key, ...]:
        """Return the keys whose `next_at` has come and that are not in the queue."""


class Links(Protocol):
    """Remember who has a link of any status on which port."""

    def replace(self, consumer: model.Key, links: Iterable[model.Link], lease: model.Lease) -> None:
        """Store all links of a consumer; fenced; writes nothing where nothing changed."""

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        """Return everyone with a link on the port."""


class Contracts(Protocol):
    """Remember what output ports publish about themselves.

    What only the one who looks at them asks stands in `portwatch.SeenPorts`.
    """

    def register(
        self,
        producer: model.Key,
        outputs: Iterable[model.SeenPort],
        lease: model.Lease,
        *,
        seen_before: datetime,
    ) -> None:
        """Store all output ports of a producer; fenced, writes nothing where nothing changed.

        One that is new or lies elsewhere begins as unknown, and is to be looked at now; so are
        those that were last seen before a moment.
        """

    def of(self, port_ids: Collection[str]) -> Mapping[str, model.SeenPort]:
        """Return what was last seen of ports, by id; those never registered are missing."""

    def of_producer(self, producer: model.Key) -> tuple[model.SeenPort, ...]:
        """Return what was last seen of a producer's ports, by namespace."""


class Asks(Protocol):
    """Remember what a person asked for until it is done."""

    def ask(self, keys: Iterable[model.Key], what: model.Ask) -> None:
        """Note the wish and queue the keys in one durable transaction.

        Asked again, the time moves on.
        """

    def of(self, key: model.Key) -> Mapping[model.Ask, datetime]:
        """Return what was asked of a key, and when."""

    def forget(self, done: Mapping[model.Ask, datetime], lease: model.Lease) -> None:
        """Forget what was asked of the leased key until then; what came later stays. Fenced."""

    def waiting(self, what: model.Ask) -> frozenset[model.Key]:
        """Return the keys of which it is still asked."""


class Flags(Protocol):
    """Keep the few facts that belong to no product (`resync_wanted`, `mass_deletion`, …)."""

    def get(self, name: str) -> str | None:
        """Return a flag's text."""

    def put(self, name: str, value: str | None) -> None:
        """Set a flag, or clear it with None."""


class Turns(Protocol):
    """Let one of all who serve a store do what is done once for all, when it is due."""

    def take(self, name: str, *, urgent: bool = False, since_seconds: float | None = None) -> bool:
        """Take a turn that is due, or urgent, and that nobody has.

        It is due as well where nobody has taken it for so many seconds, or whoever had it died.
        """

    def keep(self) -> None:
        """Extend the turns that this process has: whoever does not is replaced."""

    def end(self, name: str, *, again_seconds: float | None) -> None:
        """Give a turn back, due again then; None leaves it as due as it was."""


class History(Protocol):
    """Show what arrived and what came of it."""

    def deliveries(self, *, limit: int, before: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the newest deliveries first, ids and enums only; page by row id."""

    def outcomes(self, key: model.Key, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return a key's newest outcomes first."""

    def prune(self, before: datetime) -> int:
        """Drop a lot of what is older; return how many rows went, 0 when all have."""
