"""Name the things the provisioner talks about: frozen values, validated where they enter.

Three families: what the portal says (`Product`, `Link`, `PortalView`), what follows from it
(`Grant`, `Desired`), and what we have done so far (`Record` and its parts, kept in the store).
Datetimes are aware and UTC; `_seconds` are durations; `_digest` are hex SHA-256.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Kind(StrEnum):
    """What a key names."""

    PRODUCT = "product"
    EXPLORATION = "exploration"


@dataclass(frozen=True, order=True)
class Key:
    """Identify one thing to reconcile: its kind and its portal id (a lower-case UUID)."""

    kind: Kind
    id: str

    def __post_init__(self) -> None:
        """Refuse anything but a UUID: ids become file names and queue keys."""
        if not _UUID.fullmatch(self.id):
            raise ValueError("a key holds a lower-case UUID")

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read `kind:id`; raise ValueError for anything else."""
        kind, _, identity = text.partition(":")
        return cls(Kind(kind), identity)

    @classmethod
    def product(cls, identity: str) -> Key:
        """Name a data product."""
        return cls(Kind.PRODUCT, identity)


# --- what the portal says -----------------------------------------------------------------------


class ProductStatus(StrEnum):
    """The portal's own words; `pending` is treated like `active`."""

    PENDING = "pending"
    ACTIVE = "active"
    ARCHIVED = "archived"
    DELETING = "deleting"
    UNKNOWN = "unknown"
    """A word that no portal we know uses: such a product is left exactly as it is."""


class LinkStatus(StrEnum):
    """Where a request for access stands; only `approved` can open anything."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Product:
    """A data product as the portal describes it; every text in it is hostile."""

    id: str
    namespace: str
    name: str
    status: ProductStatus
    description: str = ""
    domain: str = ""
    lifecycle: str = ""
    owners: tuple[str, ...] = ()
    finalizers: frozenset[str] | None = None
    """Finalizers on it; None where this portal does not know finalizers."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A technical asset; only S3 ones that are ACTIVE open anything."""

    id: str
    name: str
    namespace: str
    status: str
    configuration_type: str
    bucket: str = ""
    suffix: str = ""
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class OutputPort:
    """An output port of a product, and the assets whose link to it is approved."""

    id: str
    namespace: str
    name: str
    producer_id: str
    status: str = "active"
    assets: tuple[Asset, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Link:
    """A consumer's request for one output port, of any status."""

    id: str
    consumer: Key
    producer_id: str
    port_id: str
    status: LinkStatus
    valid_from: date | None = None
    valid_until: date | None = None
    """Last day (UTC, inclusive) on which the grant is good; None = for ever."""
    mode: str = "read"


@dataclass(frozen=True, kw_only=True)
class PortalView:
    """All that the portal says about one product, read in one go."""

    product: Product
    ports: tuple[OutputPort, ...] = ()
    assets: tuple[Asset, ...] = ()
    links: tuple[Link, ...] = ()
    """Its links as a consumer, of every status."""
    producers: tuple[Product, ...] = ()
    """Producers behind its approved links."""
    granted_ports: tuple[OutputPort, ...] = ()
    """Ports behind its approved links, with their assets."""


# --- what follows from it -----------------------------------------------------------------------


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
    conditions: tuple[Condition, ...] = ()
    next_change_at: datetime | None = None
    """When the clock alone changes this answer: the next grant to start or expire."""
    digest: str = ""
    """Of everything above that steps act on."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Tell a person what stands in the way; `type` is CamelCase, one of each per product."""

    type: str
    message: str
    since: datetime


# --- what we have done so far -------------------------------------------------------------------


@dataclass(frozen=True)
class AccessKey:
    """A key pair; the secret never reaches a repr."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Pending:
    """An intent to make a key, written before the engine was asked."""

    intent_at: datetime
    key: AccessKey | None = None
    """The key, once the engine answered."""


@dataclass(frozen=True, kw_only=True)
class Retiring:
    """A key that was replaced; it dies at `delete_after`, not before that is set."""

    key_id: str
    delete_after: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A product's keys; `generation` counts every intent to replace them."""

    principal: str = ""
    """Name at the engine; empty before the first intent."""
    generation: int = 0
    current: AccessKey | None = None
    issued_at: datetime | None = None
    pending: Pending | None = None
    retiring: tuple[Retiring, ...] = ()
    policy_digest: str = ""
    """Of the policy the engine holds as far as we know; empty = unknown."""
    grants_digest: str = ""
    """Of the grants `current` was issued for: a change rotates (PROV_ROTATE_ON_GRANT)."""


@dataclass(frozen=True, kw_only=True)
class WorkspaceState:
    """What was written into a product's folder."""

    rendered: bool = False
    template_digest: str = ""
    published_digest: str = ""
    """Of the files we own in it (`.env`, `.aws/`, `ports.json`, `INPUTS.md`)."""
    published_key_id: str = ""
    """The key that `.env` names."""
    input_names: tuple[tuple[str, str], ...] = ()
    """(port id, name) of every input ever given a name: names are never reassigned."""


@dataclass(frozen=True, kw_only=True)
class Writeback:
    """What we told the portal."""

    lifecycle: str = ""
    asset_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """All we know of a product that we have touched; one row in the store."""

    key: Key
    namespace: str
    """As provisioned: it names the folder and the prefix."""
    name: str = ""
    phase: Phase = Phase.ACTIVE
    finalizer: bool = False
    prefix: bool = False
    """The prefix is ours: the mark is written, and from then on this flag decides."""
    credentials: Credentials = field(default_factory=Credentials)
    workspace: WorkspaceState = field(default_factory=WorkspaceState)
    writeback: Writeback = field(default_factory=Writeback)
    grants: tuple[Grant, ...] = ()
    conditions: tuple[Condition, ...] = ()
    settled_digest: str = ""
    """`Desired.digest` (and settings) of the last reconcile that left nothing to do."""
    next_at: datetime | None = None
    """When to look again without any event."""
    verified_at: datetime | None = None
    released_at: datetime | None = None


# --- deliveries and the queue -------------------------------------------------------------------


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
    """It may take access away: done before anything is looked at that could fail."""
