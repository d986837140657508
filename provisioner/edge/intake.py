"""Read bodies, and bound what those that are still arriving hold together.

When they would hold too much, the one that has been arriving longest is given up: the portal sends
a body within milliseconds, so whoever still sends then is slow or means harm. Refusing newcomers
instead would let a few slow senders keep everybody out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette import types

from provisioner import errors

LARGEST_BODY_BYTES = 1024 * 1024
_MOST_BYTES = 64 * LARGEST_BODY_BYTES


def announced(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the length that a body claims, 0 where it claims none; `PayloadTooLarge` beyond."""
    claimed = 0
    for name, value in headers:
        # isdigit of bytes knows ASCII alone; more than 9 digits are over the limit anyway.
        if name == b"content-length" and value.isdigit():
            claimed = max(claimed, int(value[:9]))
    _limit(claimed)
    return claimed


class Intake:
    """Read bodies up to the limit of one, within the limit of all."""

    def __init__(self, *, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._arriving: dict[asyncio.Timeout, int] = {}  # the oldest first
        self.held_bytes = 0
        """What bodies hold that are not whole yet."""

    async def read(self, receive: types.Receive) -> bytes | None:
        """Read a body, not a byte beyond the limit; None where the sender hung up.

        Raise `PayloadTooLarge`, and `Overfull` where it was given up in favour of others.
        """
        part = await receive()
        if part["type"] == "http.disconnect":
            return None
        body: bytes = part.get("body", b"")
        _limit(len(body))
        if not part.get("more_body", False):
            return body
        return await self._read_on(bytearray(body), receive)

    async def _read_on(self, body: bytearray, receive: types.Receive) -> bytes | None:
        whole = False
        try:
            async with asyncio.timeout(None) as patience:
                try:
                    while not whole:
                        self._hold(patience, len(body))
                        part = await receive()
                        if part["type"] == "http.disconnect":
                            return None
                        body += part.get("body", b"")
                        _limit(len(body))
                        whole = not part.get("more_body", False)
                finally:
                    self._let_go(patience)
        except TimeoutError as exc:
            raise errors.Overfull("too much is arriving at once") from exc
        return bytes(body)

    def _hold(self, patience: asyncio.Timeout, size: int) -> None:
        """Count what a body holds, and give up the oldest ones as long as that is too much."""
        if patience.when() is not None:  # given up already, and about to learn of it
            return
        self.held_bytes += size - self._arriving.get(patience, 0)
        self._arriving[patience] = size
        while self.held_bytes > self._most_bytes:
            oldest = next(iter(self._arriving))
            self._let_go(oldest)
            oldest.reschedule(asyncio.get_running_loop().time())

    def _let_go(self, patience: asyncio.Timeout) -> None:
        self.held_bytes -= self._arriving.pop(patience, 0)


def _limit(size: int) -> None:
    if size > LARGEST_BODY_BYTES:
        raise errors.PayloadTooLarge("a delivery is 1 MiB at most")
