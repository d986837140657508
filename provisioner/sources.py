"""Limit how much one source may have refused: a wrong proof costs as much to check as a right one.

Every source has an allowance in bytes that refused deliveries use up and time gives back. Whoever
has none left is not read at all for a while. The portal may share its address with somebody who
means harm (a proxy, a NAT), and it never sends anything twice; so what is accepted costs nothing,
a small delivery passes where a large one does not, and a source that has proven itself lately is
allowed nearly as much as the server can take in. `X-Forwarded-For` is whatever the sender likes
and counts for nothing.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_KIB = 1024
_ALLOWANCE_BYTES = 4096 * _KIB
_BYTES_PER_SECOND = 512 * _KIB
_KNOWN_FACTOR = 8
"""How much more a source may have refused that has proven itself."""
_KNOWN_SECONDS = 3600.0
_LEAST_BYTES = 4 * _KIB
"""What the smallest delivery counts: reading it costs more than its bytes."""
_MOST_SOURCES = 4096


@dataclass(slots=True)
class _Allowance:
    """What one source has left, as of a moment."""

    left: float
    at: float
    known_until: float = -math.inf
    limited: bool = False


class Sources:
    """Keep the allowances of the sources that were heard last; for one thread."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()

    def wait_seconds(self, source: str, announced: int) -> int:
        """Return how long a source has to wait before so many bytes of it are read; 0 = not."""
        allowance = self._allowances.get(source)
        if allowance is None:
            return 0
        rate = self._refill(allowance)
        missing = _LEAST_BYTES + announced - allowance.left
        return math.ceil(missing / rate) if missing > 0 else 0

    def refused(self, source: str, size: int) -> bool:
        """Note that so many bytes were refused; True where that makes a source wait from now on."""
        allowance = self._of(source)
        rate = self._refill(allowance)
        least = -_seconds_to_fill() * rate
        allowance.left = max(least, allowance.left - _LEAST_BYTES - size)
        was_limited, allowance.limited = allowance.limited, allowance.left < _LEAST_BYTES
        return allowance.limited and not was_limited

    def accepted(self, source: str) -> None:
        """Note that a source has proven itself."""
        allowance = self._of(source)
        self._refill(allowance)
        allowance.known_until = allowance.at + _KNOWN_SECONDS

    def __len__(self) -> int:
        return len(self._allowances)

    def _of(self, source: str) -> _Allowance:
        """Return the allowance of a source, the full one for a new source."""
        allowance = self._allowances.get(source)
        if allowance is None:
            allowance = _Allowance(left=_ALLOWANCE_BYTES, at=self._monotonic())
            self._allowances[source] = allowance
            if len(self._allowances) > _MOST_SOURCES:
                self._allowances.popitem(last=False)
        self._allowances.move_to_end(source)
        return allowance

    def _refill(self, allowance: _Allowance) -> float:
        """Give back what time gives; return the bytes a second."""
        now = self._monotonic()
        factor = _KNOWN_FACTOR if now < allowance.known_until else 1
        rate = _BYTES_PER_SECOND * factor
        left = allowance.left + (now - allowance.at) * rate
        allowance.left = min(_ALLOWANCE_BYTES * factor, left)
        allowance.at = now
        allowance.limited = allowance.limited and allowance.left < _ALLOWANCE_BYTES / 2
        return rate


def name(client: tuple[str, int] | None) -> str:
    """Name the source at the other end of a connection: an IPv4 address or an IPv6 network.

    Whoever has one IPv6 address has the 2^64 of its network.
    """
    host = client[0] if client else ""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def _seconds_to_fill() -> float:
    return _ALLOWANCE_BYTES / _BYTES_PER_SECOND
