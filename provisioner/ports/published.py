"""Read what producers publish beside their data, with the admin's own access."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Found(StrEnum):
    """What there was to read."""

    READ = "read"
    UNCHANGED = "unchanged"
    """The object is still the one with the ETag that was given."""
    ABSENT = "absent"
    TOO_LARGE = "too large"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One object as it was at one moment; a body only where it was read."""

    found: Found
    body: bytes = field(default=b"", repr=False)
    etag: str = ""
    modified_at: datetime | None = None
    """By the engine's clock."""


class PublishedFiles(Protocol):
    """Read small objects that others write at any moment."""

    def read(self, key: str, *, limit: int, etag: str = "") -> PublishedFile:
        """Read an object of at most `limit` bytes whole, unless it still has the ETag.

        Never more than that is taken in. `StorageUnavailable` where the engine does not answer.
        """
