"""Look at what output ports publish, each every so often, and tell whom it concerns.

The crew of `worker` calls `tick` every second. Ports that somebody has access to have their turn
once in PROV_PORTS_SECONDS, all others more rarely, and each at a time of its own, from its id; a
tick looks at a few at most, so that no number of ports becomes a burst. Turns stand in the store:
replicas share them. What was read lies there too, and only where it changes what consumers are told
are they queued.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from provisioner import errors, model, names, ports, telemetry
from provisioner.domain import backoff, freshness, portfile

NAME = "_port.json"
RARELY = 12
"""How many times longer a port waits that nobody has access to."""
_A_TICK = 20
_COUNT_EVERY = timedelta(seconds=30)
_log = telemetry.Log(__name__)


class SeenPorts(Protocol):
    """Share out turns, and keep what was seen."""

    def claim(
        self, *, limit: int, turn: Callable[[str, bool, datetime], datetime]
    ) -> tuple[model.SeenPort, ...]:
        """Take ports whose time has come; nobody else does until the turn that is named."""

    def give_back(self, delays: Mapping[str, float]) -> None:
        """Let claimed ports be due in so many seconds, by id, unless they are before that."""

    def save(self, seen: Sequence[model.SeenPort], touched: Iterable[model.Key]) -> None:
        """Note what was seen where ports still lie there, and queue keys with it."""

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        """Return everyone who has access to a port."""

    def counts(self) -> Mapping[str, int]:
        """Count ports by state."""


class PortWatch:
    """Look at the ports whose turn it is."""

    def __init__(
        self,
        files: ports.PublishedFiles,
        *,
        seen: SeenPorts,
        clock: ports.Clock,
        every_seconds: int,
        metrics: telemetry.Metrics,
    ) -> None:
        self._files = files
        self._seen = seen
        self._clock = clock
        self._every = every_seconds
        self._metrics = metrics
        self._wait_until: datetime | None = None
        self._count_at: datetime | None = None
        self._failures = 0
        self._failed: dict[str, int] = {}
        """How often ports could not be looked at, one time after another; those that could not."""

    def tick(self) -> bool:
        """Look at a few ports; tell whether anybody was queued for it.

        An engine that does not answer is asked again later, all ports together.
        """
        now = self._clock()
        if self._wait_until is not None and now < self._wait_until:
            return False
        try:
            queued = self.run()
        except errors.StoreUnavailable:
            raise
        except errors.ReconcileError as error:
            self._wait_until = now + timedelta(seconds=_later(self._failures))
            self._failures += 1
            _log.warning("ports could not be looked at", reason=str(error))
            return False
        self._failures, self._wait_until = 0, None
        self._count(now)
        return queued

    def run(self) -> bool:
        """Look at the ports whose turn it is, and keep what was seen even if one look fails."""
        looked: list[model.SeenPort] = []
        touched: set[model.Key] = set()
        claimed = self._seen.claim(limit=_A_TICK, turn=self._turn)
        try:
            for known in claimed:
                seen = self.look(known)
                looked.append(seen)
                self._failed.pop(known.port_id, None)
                if freshness.told(seen) != freshness.told(known):
                    touched |= {known.producer, *self._seen.consumers(known.port_id)}
                    _log.info(
                        "a port is seen otherwise",
                        producer=seen.producer_namespace,
                        port=seen.port_namespace,
                        state=seen.state,
                    )
        except errors.ReconcileError:
            self._give_back(claimed[len(looked) :])
            raise
        finally:
            if looked:
                self._seen.save(looked, touched)
        return bool(touched)

    def _give_back(self, left: Sequence[model.SeenPort]) -> None:
        """Keep no port waiting for a whole period because the engine did not answer.

        The one that failed comes after those that were not looked at, ever later: were it alone
        to fail, it would hold up all others.
        """
        delays = {known.port_id: 0.0 for known in left}
        for known in left[:1]:
            failures = self._failed.get(known.port_id, 0)
            delays[known.port_id] = _later(failures)
            self._failed[known.port_id] = failures + 1
        if delays:
            self._seen.give_back(delays)

    def look(self, known: model.SeenPort) -> model.SeenPort:
        """Read what one port publishes now."""
        now = self._clock()
        prefix = names.port_prefix(known.producer_namespace, known.port_namespace)
        file = self._files.read(f"{prefix}{NAME}", limit=portfile.LIMIT_BYTES, etag=known.etag)
        if file.found is ports.Found.UNCHANGED:
            return freshness.unchanged(known, now=now)
        if file.found is ports.Found.ABSENT:
            return freshness.unpublished(known, now=now)
        if file.found is not ports.Found.READ:
            large = file.found is ports.Found.TOO_LARGE
            why = portfile.TOO_LARGE if large else portfile.REFUSED
            return freshness.unreadable(known, why, now=now)
        try:
            contract = portfile.parse(file.body, port=known.port_namespace)
        except portfile.Unreadable as why:
            return freshness.unreadable(known, str(why), now=now)
        return freshness.readable(
            known, contract, etag=file.etag, modified_at=file.modified_at, now=now
        )

    def _turn(self, port_id: str, consumed: bool, now: datetime) -> datetime:
        return turn(port_id, self._every * (1 if consumed else RARELY), now)

    def _count(self, now: datetime) -> None:
        """Show how many ports there are of each state, now and then."""
        if self._count_at is not None and now < self._count_at:
            return
        self._count_at = now + _COUNT_EVERY
        counted = self._seen.counts()
        for state in model.PortState:
            self._metrics.ports.labels(state).set(counted.get(state, 0))


def _later(failures: int) -> float:
    return backoff.backoff_seconds(failures, base=5.0, cap=300.0, jitter=random.random)


def turn(port_id: str, every_seconds: int, after: datetime) -> datetime:
    """Return the first of the moments after one that are this port's own."""
    digest = hashlib.sha256(port_id.encode()).digest()
    offset = int.from_bytes(digest[:8]) % every_seconds
    passed = (int(after.timestamp()) - offset) // every_seconds
    return datetime.fromtimestamp((passed + 1) * every_seconds + offset, UTC)
