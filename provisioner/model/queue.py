"""Hold what arrives, who works on it, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from provisioner.model.identity import Key


class Wire(StrEnum):
    """The portal's two webhook formats."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, kw_only=True)
class Touched:
    """Which products an event is a hint about."""

    keys: frozenset[Key] = frozenset()
    ports: frozenset[tuple[Key, str]] = frozenset()
    """(producer, port id): everyone with a link on the port is touched too."""
    links: frozenset[str] = frozenset()
    """Legacy link ids, to be resolved by the store; unknown = resync."""
    resync: bool = False

    @property
    def nothing(self) -> bool:
        """Tell whether the event concerns nobody."""
        return not (self.keys or self.ports or self.links or self.resync)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One verified webhook: ids and enums only, never a body."""

    id: str
    received_at: datetime
    wire: Wire
    subject: str
    """v1: `METHOD /path/with/{id}`; v2: the event type. From a fixed alphabet."""
    status_code: int | None
    touched: Touched


class Priority(StrEnum):
    """Fresh events are served before resync and timers."""

    EVENT = "event"
    RESYNC = "resync"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A worker's right to one key until `expires_at`; `token` fences every write."""

    key: Key
    token: str
    expires_at: datetime
    attempts: int
    """Failures in a row before this run."""
    ports: frozenset[str] = frozenset()
    """Touched ports whose consumers the portal must be asked for; `*` = all."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one reconcile ended."""

    key: Key
    status: str
    """`done`, `retry` or `condition`."""
    actions: tuple[str, ...] = ()
    message: str = ""
    next_at: datetime | None = None
