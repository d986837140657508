"""Bound how many connections are held, and choose who has to go when one more comes.

Whoever has let us wait longest, of the address that holds most: a delivery is sent and answered
within milliseconds, so it is never the portal's that goes while others are held open. Refusing
newcomers instead would let a few thousand silent connections keep everybody out.
"""

from __future__ import annotations

import resource
from typing import Protocol

_MOST = 2048
_KEPT_FILES = 256
"""What store, portal, engine and workspaces need of the files that the process may open."""
_LEAST = 16


class Member(Protocol):
    """A connection."""

    @property
    def is_awaited(self) -> bool:
        """Tell whether it is the sender's turn."""

    def abort(self) -> None:
        """Hang up at once."""


class Crowd:
    """Hold up to `most` connections; for one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        # By source, the one that was heard longest ago first.
        self._members: dict[str, dict[Member, None]] = {}
        self._source_of: dict[Member, str] = {}

    def __len__(self) -> int:
        return len(self._source_of)

    def join(self, member: Member, source: str) -> None:
        """Take a connection in, for another one if there are too many."""
        if len(self) >= self._most:
            self._make_room()
        self._members.setdefault(source, {})[member] = None
        self._source_of[member] = source

    def renew(self, member: Member) -> None:
        """Note that a connection was answered: it waits anew."""
        source = self._source_of.get(member)
        if source is not None:
            self._members[source][member] = self._members[source].pop(member)

    def leave(self, member: Member) -> None:
        """Forget a connection."""
        source = self._source_of.pop(member, None)
        if source is not None:
            del self._members[source][member]
            if not self._members[source]:
                del self._members[source]

    def _make_room(self) -> None:
        """End the connection that is awaited longest, of the source with most connections.

        One that is being answered stays: if all are, the newcomer is one more for a moment.
        """
        for members in sorted(self._members.values(), key=len, reverse=True):
            for member in members:
                if member.is_awaited:
                    self.leave(member)
                    member.abort()
                    return


def most_connections() -> int:
    """Return how many connections the process may hold, by how many files it may open."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return _MOST
    return max(_LEAST, min(_MOST, allowed - _KEPT_FILES))
