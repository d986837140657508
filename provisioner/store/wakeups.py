"""Tell workers of other processes that something was queued, and hear it from them.

PostgreSQL carries it: `announce` notifies within the transaction that queues, so nothing is heard
that was not committed, and a thread of its own listens. What is heard says only "look"; what was
not heard, while the server was away, is found by looking now and then.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy

from provisioner import telemetry
from provisioner.domain import backoff

if TYPE_CHECKING:
    import psycopg

_CHANNEL = "provisioner_queue"
_LISTENING = 0x70726F77
"""Advisory lock that everybody who listens shares: so it is seen whether anybody does."""
_TURN_SECONDS = 0.25
_TURNS_BETWEEN_PROBES = 80
"""A connection that died without a word shows when something is asked."""
_LONGEST_PAUSE_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_log = telemetry.Log(__name__)


def announce(connection: sqlalchemy.Connection) -> None:
    """Wake every listener once this transaction is committed."""
    if connection.dialect.name == "postgresql":
        # Told to the driver itself: every delivery does, and it may be sent with what it writes.
        with contextlib.closing(connection.connection.cursor()) as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", (_CHANNEL,))


def is_silent(connection: sqlalchemy.Connection) -> bool:
    """Tell whether no process listens, and keep others from it until the transaction ends."""
    if connection.dialect.name != "postgresql":
        return True
    alone = sqlalchemy.func.pg_try_advisory_xact_lock(_LISTENING)
    return bool(connection.scalar(sqlalchemy.select(alone)))


class Silence:
    """Hear nothing."""

    hears = False
    alive = True

    def start(self, on_wake: Callable[[], None]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Listener:
    """Listen to PostgreSQL in a thread, and again after every loss of the connection."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.hears = False

    @property
    def alive(self) -> bool:
        """Tell whether the thread runs, if it was ever started."""
        return self._thread is None or self._thread.is_alive()

    def start(self, on_wake: Callable[[], None]) -> None:
        """Call back, from the listener's thread, whenever there may be something new."""
        self._thread = threading.Thread(
            target=self._run, args=(on_wake,), name="wake-ups", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self, on_wake: Callable[[], None]) -> None:
        """Listen, and after every loss again, until told to end."""
        import psycopg

        failures = 0
        while not self._ending.is_set():
            try:
                with contextlib.closing(self._connect()) as connection:
                    connection.execute("SELECT pg_advisory_lock_shared(%s)", [_LISTENING])
                    connection.execute(f"LISTEN {_CHANNEL}")
                    if failures:
                        _log.info("wake-ups of other replicas are heard again")
                    failures, self.hears = 0, True
                    self._hear(connection, on_wake)
            except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError) as exc:
                if not failures:
                    reason = type(exc).__name__
                    _log.warning("wake-ups of other replicas are not heard", reason=reason)
                pause = backoff.backoff_seconds(failures, jitter=random.random)
                failures += 1
            finally:
                self.hears = False
            on_wake()  # whoever rests now must not rest as long as with a listener
            if failures:
                self._ending.wait(min(pause, _LONGEST_PAUSE_SECONDS))

    def _connect(self) -> psycopg.Connection:
        """Open a connection like every other, but outside of the pool."""
        pooled = self._engine.raw_connection()
        connection: psycopg.Connection = pooled.driver_connection  # type: ignore[assignment]
        pooled.detach()
        connection.autocommit = True
        return connection

    def _hear(self, connection: psycopg.Connection, on_wake: Callable[[], None]) -> None:
        """Listen until told to end; raise psycopg's error once the connection is lost."""
        on_wake()  # for what was queued while nobody listened
        turns = 0
        while not self._ending.is_set():
            for _ in connection.notifies(timeout=_TURN_SECONDS, stop_after=1):
                on_wake()
            turns += 1
            if turns % _TURNS_BETWEEN_PROBES == 0:
                connection.execute("SELECT 1")
