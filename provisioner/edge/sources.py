"""Limit how much one source may have refused: a wrong proof costs as much to check as a right one.

Every source has an allowance in bytes that refused deliveries use up and time gives back. Whoever
has none left is not read at all for a while. The portal may share its address with somebody who
means harm (a proxy, a NAT), and it never sends anything twice; so what is accepted costs nothing,
an ordinary delivery passes where a large one does not, and a source that has proven itself lately
is allowed about as many small ones as the server can answer. `X-Forwarded-For` is whatever the
sender likes and counts for nothing.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_KIB = 1024
_ALLOWANCE_BYTES = 2048 * _KIB
_BYTES_PER_SECOND = 256 * _KIB
"""The worst JSON takes about 100 ms a MiB, in which nothing else is answered."""
_KNOWN_FACTOR = 4
"""How much more a source may have refused that has proven itself."""
_KNOWN_SECONDS = 3600.0
_LEAST_BYTES = _KIB // 2
"""What the smallest delivery counts: answering it costs more than its bytes."""
_ORDINARY_BYTES = 64 * _KIB
"""Up to here a delivery needs no more left than the smallest one, so that many small ones which
are refused leave others of that source their turn."""
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

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        on_limited: Callable[[str], None] = lambda _source: None,
    ) -> None:
        self._monotonic = monotonic
        self._on_limited = on_limited
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._allowances)

    def wait_seconds(self, source: str, size: int) -> int:
        """Return 0 where so many bytes may be looked at, else the seconds after which they may.

        Nothing is set aside: bodies that never come whole must not use up what is left.
        """
        if source not in self._allowances:
            return 0
        allowance, rate = self._now(source)
        missing = _LEAST_BYTES + max(0, size - _ORDINARY_BYTES) - allowance.left
        if missing <= 0:
            return 0
        if not allowance.limited:
            allowance.limited = True
            self._on_limited(source)
        return math.ceil(missing / rate)

    def refused(self, source: str, size: int) -> None:
        """Take so many bytes away, which were looked at in vain."""
        allowance, _ = self._now(source)
        allowance.left -= _LEAST_BYTES + size

    def accepted(self, source: str) -> None:
        """Remember that the source has proven itself."""
        allowance = self._allowances.get(source) or self._now(source)[0]
        allowance.known_until = allowance.at + _KNOWN_SECONDS

    def _now(self, source: str) -> tuple[_Allowance, float]:
        """Return the allowance of a source as it is now, and the bytes a second it gets back."""
        now = self._monotonic()
        allowance = self._allowances.get(source)
        if allowance is None:
            allowance = self._allowances[source] = _Allowance(left=_ALLOWANCE_BYTES, at=now)
            if len(self._allowances) > _MOST_SOURCES:
                self._allowances.popitem(last=False)
        else:
            self._allowances.move_to_end(source)
        factor = _KNOWN_FACTOR if now < allowance.known_until else 1
        rate, most = _BYTES_PER_SECOND * factor, _ALLOWANCE_BYTES * factor
        allowance.left = min(most, allowance.left + (now - allowance.at) * rate)
        allowance.at = now
        if allowance.left > most / 2:
            allowance.limited = False
        return allowance, rate


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
