"""Name what is reconciled."""

from __future__ import annotations

import re
from dataclasses import dataclass
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

    @property
    def produces(self) -> bool:
        """Tell whether it has a prefix, ports and assets: an exploration only consumes."""
        return self.kind is Kind.PRODUCT

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read `kind:id`; raise ValueError for anything else."""
        kind, _, identity = text.partition(":")
        return cls(Kind(kind), identity)

    @classmethod
    def product(cls, identity: str) -> Key:
        """Name a data product."""
        return cls(Kind.PRODUCT, identity)


@dataclass(frozen=True, order=True, kw_only=True)
class Principal:
    """Name what holds a product's keys at the engine, and the product it is marked with."""

    name: str
    product_id: str
