"""Keep a connection at hand for what is written again and again.

To take one from the pool and give it back took as long as the transaction of a delivery. The pool
makes sure that a connection still works and is not too old; so one that has rested goes back to it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import sqlalchemy

_REST_SECONDS = 1.0
"""In so short a time a connection breaks only with the transactions on it."""


class Line:
    """One connection of a pool, for one thread at a time."""

    def __init__(
        self, engine: sqlalchemy.Engine, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._turn = threading.Lock()
        self._kept: sqlalchemy.Connection | None = None
        self._used_at = 0.0

    @contextlib.contextmanager
    def begin(self) -> Iterator[sqlalchemy.Connection]:
        """Begin a transaction, as an engine does; what fails takes the connection with it."""
        with self._turn:
            connection = self._take()
            try:
                with connection.begin():
                    yield connection
            except BaseException:
                connection.invalidate()
                self._give_back()
                raise
            self._used_at = self._monotonic()

    def close(self) -> None:
        """Give the connection back, unless it is still being used."""
        if self._turn.acquire(blocking=False):
            try:
                self._give_back()
            finally:
                self._turn.release()

    def _take(self) -> sqlalchemy.Connection:
        if self._monotonic() - self._used_at > _REST_SECONDS:
            self._give_back()
        if self._kept is None:
            self._kept = self._engine.connect()
        return self._kept

    def _give_back(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
