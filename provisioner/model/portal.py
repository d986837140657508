"""Hold what the portal says; every text in it is hostile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from provisioner.model.identity import Key


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
