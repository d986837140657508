"""Hold what an output port publishes about itself, as far as it is believed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from provisioner.model.identity import Key


class PortState(StrEnum):
    """How what a port publishes was found when it was last looked at."""

    UNKNOWN = "unknown"
    """Nobody has looked yet, or does any more."""
    UNPUBLISHED = "unpublished"
    FRESH = "fresh"
    STALE = "stale"
    """Published longer ago than twice the time that it is expected in."""
    SHRUNKEN = "shrunken"
    """It has less than half the rows that it had, until it has them again or a person accepts."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: name and type from fixed alphabets, the description free text of one line."""

    name: str
    type: str
    """As DuckDB prints it: `DECIMAL(18,3)`, `VARCHAR[]`."""
    nullable: bool = True
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One audit of the model, and whether it held when the port was published."""

    name: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What one `_port.json` says."""

    model: str
    published_at: datetime
    rows: int
    snapshot: str
    description: str = ""
    """Free text, without control characters: to be shown only escaped."""
    expected_every_seconds: int | None = None
    grain: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    audits: tuple[Audit, ...] = ()
    dropped: int = 0
    """How many columns were left out because their name or type is none that we pass on."""
    rows_accepted: bool = False
    """Whether a person on the producer's side said of this publication that its rows are right."""


@dataclass(frozen=True, kw_only=True)
class SeenPort:
    """An output port and what was last seen of its contract."""

    port_id: str
    producer: Key
    producer_namespace: str
    port_namespace: str
    state: PortState = PortState.UNKNOWN
    why: str = ""
    """Why it is unreadable, a constant sentence."""
    contract: Contract | None = None
    """The last one that could be read; None where none is published."""
    version: str = ""
    """Of the columns: `1.0`, the first number grows where a consumer may break."""
    rows_before: int | None = None
    """Of the publication before this one that was not shrunken."""
    etag: str = ""
    """Of the object that was read; empty = read it again whatever it is."""
    read_at: datetime | None = None
    changed_at: datetime | None = None
    """When what consumers are told last changed."""
