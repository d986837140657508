"""Leave a portal alone for as long as it asks: every call waits, not only the one that was told.

A short wait is waited in the call. A longer one is told to the caller without asking the portal
again: the queue and the resync come back later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from provisioner import errors

LONGEST_WAIT_SECONDS = 5.0
"""What a worker waits in a call; a portal that asks for more is left alone for that long."""


class Pacing:
    """Remember until when a portal wants to be left alone; shared between threads."""

    def __init__(self, *, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._quiet_until = clock()

    def asked(self, seconds: float) -> None:
        """Note that the portal asked to be left alone for so long."""
        with self._lock:
            self._quiet_until = max(self._quiet_until, self._clock() + seconds)

    def wait(self, **told: object) -> None:
        """Wait until the portal may be called; `RateLimited` where that is too long to wait."""
        with self._lock:
            left = self._quiet_until - self._clock()
        if left > LONGEST_WAIT_SECONDS:
            raise errors.RateLimited(
                "the portal asked us to come back later", delay_seconds=left, **told
            )
        if left > 0:
            self._sleep(left)
