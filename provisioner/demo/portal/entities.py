"""Name what a small portal keeps, and how the versions of the real one differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

TYPE_ID = "3c289333-2d55-4aed-8bd5-85015a1567fe"
DOMAIN_ID = "acaaaafe-cde9-4746-9835-f1e0c3c85b6c"
OWNER_ID = "b72fca38-17ff-4259-a075-5aaa5973343c"
DRAFT_ID = "00000000-0000-0000-0000-000000000001"
EXPLORATION_DAYS = 30


class Refused(Exception):
    """Refuse with the HTTP status and the words of the real portal."""

    def __init__(self, status: int, detail: object) -> None:
        super().__init__(status)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one version of the portal differs from the others."""

    version: str
    modern: bool
    """0.6 and later: finalizers, expiry, six link statuses, no deprecated routes."""
    v1: bool
    v2: bool
    asset_slash: bool = False
    """`…/technical_assets/` rather than without the slash."""
    access_modes: bool = False
    approval_names_consumer: bool = False
    legacy: bool = False
    """Only the API of release 0.4.2: products and datasets below `/api`."""


STYLES: Mapping[str, Style] = {
    "tag-0.4.2": Style(version="0.4.2", modern=False, v1=True, v2=False, legacy=True),
    "0.4.2": Style(version="0.4.2", modern=False, v1=True, v2=False, approval_names_consumer=True),
    "0.5.1": Style(version="0.5.1", modern=False, v1=True, v2=False),
    "0.7.0": Style(version="0.7.0", modern=True, v1=True, v2=True),
    "main": Style(
        version="0.7.0", modern=True, v1=False, v2=True, asset_slash=True, access_modes=True
    ),
}


@dataclass(kw_only=True)
class Product:
    """A data product."""

    id: str
    namespace: str
    name: str
    description: str
    lifecycle_id: str = DRAFT_ID
    status: str = "active"
    about: str = ""
    finalizers: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Exploration:
    """An exploration: it reads from ports and has none of its own."""

    id: str
    namespace: str
    name: str
    description: str
    status: str = "active"
    finalizers: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Port:
    """An output port."""

    id: str
    product_id: str
    namespace: str
    name: str
    access_type: str
    status: str = "active"


@dataclass(kw_only=True)
class Link:
    """A request for access to a port."""

    id: str
    consumer_id: str
    port_id: str
    justification: str
    requested_at: str
    request_id: str
    status: str = "pending"
    valid_from: date | None = None
    valid_until: date | None = None
    mode: str | None = None
    revoked_at: str | None = None


@dataclass(kw_only=True)
class Asset:
    """A technical asset; `links` maps port ids to the link's id and status."""

    id: str
    product_id: str
    namespace: str
    name: str
    description: str
    status: str
    technical_mapping: str
    configuration: dict[str, Any]
    links: dict[str, tuple[str, str]] = field(default_factory=dict)
