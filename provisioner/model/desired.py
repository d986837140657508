"""Hold what follows from the portal's words, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from provisioner.model.access import EndReason
from provisioner.model.ask import Ask
from provisioner.model.contract import SeenPort
from provisioner.model.identity import Key
from provisioner.model.portal import Asset, OutputPort, Product


class Phase(StrEnum):
    """What we are to make of a product."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    GONE = "gone"


class Access(StrEnum):
    """How far a grant reaches."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, order=True, kw_only=True)
class Location:
    """A prefix in a bucket; the prefix always ends in `/`."""

    bucket: str
    prefix: str

    def __post_init__(self) -> None:
        """Refuse a prefix that could match a sibling's name."""
        if not self.prefix.endswith("/"):
            raise ValueError("a prefix ends in /")


@dataclass(frozen=True, kw_only=True)
class Grant:
    """One approved, unexpired link and the places it opens."""

    producer_id: str
    producer_namespace: str
    port_id: str
    port_namespace: str
    access: Access
    locations: tuple[Location, ...]
    """First the port's own prefix, then those of its assets."""
    valid_until: date | None = None


@dataclass(frozen=True, kw_only=True)
class Desired:
    """What one product should have, computed from a `PortalView` and the day."""

    key: Key
    phase: Phase
    product: Product | None
    """None where the portal no longer knows it; the record then says what to release."""
    ports: tuple[OutputPort, ...] = ()
    assets: tuple[Asset, ...] = ()
    grants: tuple[Grant, ...] = ()
    refusals: Mapping[str, EndReason] = field(default_factory=dict)
    """Why a port that was once asked for opens nothing today, by its id; no part of the digest."""
    seen: Mapping[str, SeenPort] = field(default_factory=dict)
    """What was last seen of its own ports and of those granted to it, by id."""
    conditions: tuple[Condition, ...] = ()
    next_change_at: datetime | None = None
    """When the clock alone changes this answer: the next grant to start or expire."""
    template: str = ""
    """Digest of the template that its workspace is brought to; empty = not unless asked for."""
    digest: str = ""
    """Of everything above that steps act on."""
    asks: Mapping[Ask, datetime] = field(default_factory=dict)
    """What a person asked for and when; no part of the digest."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Tell a person what stands in the way; `type` is CamelCase, one of each per product."""

    type: str
    message: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Action:
    """One idempotent effect of a step; planning makes them, `provisioner plan` prints them."""

    step: str
    verb: str
    """What to do, an imperative from the step's own small vocabulary: `create-key`."""
    subject: str = ""
    """What it is done to, fit to be shown: a prefix, a key id, a file; never a secret."""
    detail: str = ""
    urgent: bool = False
    """Done before anything is looked at that could fail: it may take access away, or make ours
    what looking would refuse."""
