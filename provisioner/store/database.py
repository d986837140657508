"""Open the database and hand out transactions; every SQL error becomes ours here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from provisioner import errors, migrations, ports, telemetry
from provisioner.store import line, places, times, wakeups

_log = telemetry.Log(__name__)

_SERVED = "a service or a command works on this store: stop it first"
_FROZEN = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout")
"""Whoever reads everything may have a slow disk to write it to."""
Insert = sqlite.Insert | postgresql.Insert


class Database:
    """One database, migrated to the newest version."""

    def __init__(
        self,
        url: str,
        *,
        clock: ports.Clock,
        time: times.Time | None = None,
        migrates: bool = True,
    ) -> None:
        self._place = places.find(url)
        self._engine = self._place.create_engine()
        self._line = line.Line(self._engine)
        self._time = time or self._place.time(clock)
        self.wake_ups = self._place.wake_ups(self._engine)
        self._serving = not self._place.single_process
        try:
            if migrates:
                self._migrate()
        except BaseException:
            self.close()
            raise

    @property
    def single_process(self) -> bool:
        """Tell whether only one process at a time may serve this database."""
        return self._place.single_process

    @property
    def is_serving(self) -> bool:
        """Tell whether this process may lease keys."""
        return self._serving

    def acquire(self) -> bool:
        """Become the process that serves; False where another one is."""
        if not self._serving:
            # Within a writing transaction, so that nobody is migrating just now.
            with self.writing():
                self._serving = self._place.claim()
        return self._serving

    def now(self, connection: sqlalchemy.Connection) -> datetime:
        """Return the present by the clock that everybody who serves this database shares."""
        return self._time(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlalchemy.Connection]:
        """Read one consistent state; raise `StoreUnavailable` where that fails."""
        self._place.check()
        with _translated(self._engine), self._engine.begin() as connection:
            self._place.begin(connection, writes=False)
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlalchemy.Connection]:
        """Write all or nothing, durable on return; raise `StoreUnavailable` where that fails."""
        with self._writing(self._engine.begin) as connection:
            yield connection

    @contextlib.contextmanager
    def writing_often(self) -> Iterator[sqlalchemy.Connection]:
        """Write as `writing` does, one after another, on a connection that is kept for it."""
        with self._writing(self._line.begin) as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(
        self, begin: Callable[[], AbstractContextManager[sqlalchemy.Connection]]
    ) -> Iterator[sqlalchemy.Connection]:
        with _translated(self._engine), self._place.turn():
            # First: with the last connection closed, a new file may bear the old one's number.
            self._place.check()
            with begin() as connection:
                self._place.begin(connection, writes=True)
                yield connection

    def ending(self, connection: sqlalchemy.Connection) -> AbstractContextManager[None]:
        """End a transaction with what is written within, by `prepared` statements alone."""
        return self._place.end(connection)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlalchemy.Connection]:
        """Read one state, the same from the first row to the last, for as long as it takes."""
        self._place.check()
        with _translated(self._engine), self._engine.connect() as plain:
            server = plain.dialect.name == "postgresql"
            connection = plain.execution_options(**(_FROZEN if server else {}))
            with connection.begin():
                self._place.begin(connection, writes=False)
                for limit in _LIMITS if server else ():
                    connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
                yield connection

    @contextlib.contextmanager
    def alone(self) -> Iterator[sqlalchemy.Connection]:
        """Write as the only one: nobody serves, works or migrates; else `PermanentError`."""
        if not self.acquire():
            raise errors.PermanentError(_SERVED)
        with self.writing() as connection, self._place.alone(connection):
            if not wakeups.is_silent(connection):
                raise errors.PermanentError(_SERVED)
            yield connection

    def healthy(self) -> bool:
        """Tell whether the database can be read and has the tables we know."""
        try:
            with self.reading() as connection:
                return migrations.current(connection) == migrations.HEAD
        except errors.StoreUnavailable:
            return False

    def tidy(self) -> None:
        """Give back the room that nothing needs any more; called now and then."""
        with _translated(self._engine):
            self._place.tidy(self._engine)

    def close(self) -> None:
        """Close every connection and let another process serve."""
        self.wake_ups.close()
        self._line.close()
        self._engine.dispose()
        self._place.close()
        self._serving = False

    def _migrate(self) -> None:
        """Bring the tables to the newest version, unless they are there."""
        with self.reading() as connection:
            if migrations.current(connection) == migrations.HEAD:
                return
        with self.writing() as connection:
            # Whoever migrated while we waited for our turn may be serving by now.
            if migrations.current(connection) == migrations.HEAD:
                return
            with self._place.alone(connection):
                found = migrations.current(connection)
                if found == migrations.HEAD:
                    return
                migrations.upgrade(connection)
        _log.info("database migrated", before=found, after=migrations.HEAD)


def version(url: str) -> str | None:
    """Return the version of a database's tables without changing it; None where it is empty."""
    if not places.exists(url):
        return None
    engine = places.find(url).create_engine()
    try:
        with _translated(engine), engine.begin() as connection:
            return migrations.current(connection)
    finally:
        engine.dispose()


def migrate(url: str, *, clock: ports.Clock) -> str:
    """Bring a database to the newest version and return it."""
    Database(url, clock=clock).close()
    return migrations.HEAD


def insert(connection: sqlalchemy.Connection, table: sqlalchemy.Table) -> Insert:
    """Begin an INSERT that can say what to do on a conflict."""
    return insert_into(table, connection.dialect.name)


def insert_into(table: sqlalchemy.Table, dialect: str) -> Insert:
    """Begin the same for a dialect by its name, to be kept."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@contextlib.contextmanager
def _translated(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Turn errors of the database into ours; a broken constraint is a bug and stays one."""
    driver: Any = engine.dialect.dbapi
    try:
        yield
    except (exc.IntegrityError, driver.IntegrityError):
        raise
    except (exc.DBAPIError, exc.TimeoutError, driver.Error) as failure:
        raise errors.StoreUnavailable(
            "the database cannot be read or written now", reason=_reason(failure)
        ) from failure


def _reason(failure: Exception) -> str:
    """Name the error by its class or code alone: texts of drivers may hold values."""
    origin = getattr(failure, "orig", None) or failure
    code = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None)
    return str(code or type(origin).__name__)
