"""Hold since when a consumer may reach a port, and what it no longer may."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EndReason(StrEnum):
    """Why access to a port ended."""

    REVOKED = "revoked"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    """The request was cancelled, or is to be decided anew."""
    DELETED = "deleted"
    """The producer, or the port, is deleted or being deleted."""
    UNKNOWN = "unknown"
    """The portal no longer lists the request, or what it says opens nothing here."""


@dataclass(frozen=True, kw_only=True)
class HeldAccess:
    """Access that there is."""

    port_id: str
    since: datetime | None = None
    """None where it is older than our memory of it."""


@dataclass(frozen=True, kw_only=True)
class EndedAccess:
    """Access that there was."""

    port_id: str
    name: str
    """The input as the consumer's SQL saw it."""
    producer_namespace: str
    port_namespace: str
    ended_at: datetime
    why: EndReason
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class AccessLog:
    """What one consumer may reach, and what it could."""

    held: tuple[HeldAccess, ...] = ()
    ended: tuple[EndedAccess, ...] = ()
    """The newest first; only so many are kept."""
