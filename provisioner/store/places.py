"""Know where a database lies: a SQLite file with its lock, or a PostgreSQL server.

A SQLite store is served by one process: the holder of `<file>.lock`. Others may read it and queue
keys. PostgreSQL needs none of this, so its place does nothing with the same methods.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy
from sqlalchemy import event

from provisioner import errors, ports
from provisioner.store import times, wakeups

_BUSY_SECONDS = 5.0
_LARGEST_LOG_BYTES = 16 * 1024 * 1024
_TIDY_MILLISECONDS = 200
_CACHE_KIB = 512
"""Pages that each connection keeps for itself: there are many, and the kernel keeps them too."""
_POOL: dict[str, Any] = {"pool_size": 8, "max_overflow": 16, "pool_timeout": 10}
_MIGRATION_LOCK = 0x70726F76
_MIGRATION_SECONDS = 120
"""How long a start waits for another replica to migrate."""
_RECYCLE_SECONDS = 300
"""A server that became a standby answers, but takes no writes: it is left after so long."""
_NETWORK = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""A server that vanished is noticed within seconds; what the URL says goes first."""
_SESSION = (
    # A process that is stopped in the middle of a transaction must not hold a key for ever.
    "SET idle_in_transaction_session_timeout = '10s'",
    "SET lock_timeout = '5s'",
    "SET statement_timeout = '30s'",
    # What was acknowledged is on disk, whatever the database's own default.
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'",
)


class Place(Protocol):
    """What differs between databases besides SQL."""

    single_process: bool

    def create_engine(self) -> sqlalchemy.Engine:
        """Return an engine for this place."""

    def begin(self, connection: sqlalchemy.Connection, *, writes: bool) -> None:
        """Begin a transaction, where the driver does not do it by itself."""

    def end(self, connection: sqlalchemy.Connection) -> AbstractContextManager[None]:
        """End a transaction with what is written within, by the driver alone and nothing read."""

    def check(self) -> None:
        """Raise `StoreUnavailable` where the database is no longer the one that was opened."""

    def turn(self) -> AbstractContextManager[object]:
        """Let writers of this process wait for each other."""

    def tidy(self, engine: sqlalchemy.Engine) -> None:
        """Give back the room that nothing needs any more."""

    def claim(self) -> bool:
        """Become the one that serves, if nobody else does."""

    def alone(self, connection: sqlalchemy.Connection) -> AbstractContextManager[None]:
        """Keep everybody from serving or migrating meanwhile; `StoreUnavailable` if one serves."""

    def time(self, clock: ports.Clock) -> times.Time:
        """Return the clock that all who serve this database share."""

    def wake_ups(self, engine: sqlalchemy.Engine) -> ports.WakeUps:
        """Return what hears from other processes that something was queued."""

    def close(self) -> None:
        """Let go of everything."""


class SqliteFile:
    """A SQLite file (0600, its folder 0700 where we make it) and the lock beside it."""

    single_process = True

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._turn = threading.Lock()
        self._lock: int | None = None
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._identity = _make_private(self._path)
        except OSError as exc:
            raise unusable("a file that can be made and written, and is ours") from exc

    def create_engine(self) -> sqlalchemy.Engine:
        """Return an engine that leaves it to us when a transaction begins."""
        # mode=rw: SQLite must never make a new, empty file where ours was taken away.
        url = sqlalchemy.URL.create(
            "sqlite", database=f"{self._path.as_uri()}", query={"mode": "rw", "uri": "true"}
        )
        engine = sqlalchemy.create_engine(
            url,
            hide_parameters=True,
            connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None},
            **_POOL,
        )
        event.listen(engine, "connect", _set_pragmas)
        return engine

    def begin(self, connection: sqlalchemy.Connection, *, writes: bool) -> None:
        """Take the write lock at the beginning: a reader that turns writer could only fail.

        Told to the driver itself: it is asked for with every delivery.
        """
        connection.connection.cursor().execute("BEGIN IMMEDIATE" if writes else "BEGIN")

    def end(self, connection: sqlalchemy.Connection) -> AbstractContextManager[None]:
        """Leave it to the block that began the transaction."""
        return contextlib.nullcontext()

    def check(self) -> None:
        """Notice a file that was removed or replaced: what is written there would be lost."""
        try:
            found = _identity(self._path.stat())
        except OSError as exc:
            raise errors.StoreUnavailable("the database file is gone") from exc
        if found != self._identity:
            raise errors.StoreUnavailable("the database file was replaced")

    def turn(self) -> AbstractContextManager[object]:
        """Queue writers on a lock that wakes them at once; SQLite's own waiting sleeps."""
        return self._turn

    def tidy(self, engine: sqlalchemy.Engine) -> None:
        """Empty the log where it has grown; SQLite does so only at a moment when nobody reads.

        Rows that were dropped leave pages in the file which the next rows fill.
        """
        log = self._path.with_name(f"{self._path.name}-wal")
        try:
            if log.stat().st_size <= _LARGEST_LOG_BYTES:
                return
        except FileNotFoundError:
            return
        with self._turn, contextlib.closing(engine.raw_connection()) as connection:
            cursor = connection.cursor()
            # Writers wait meanwhile, so whoever reads for long is left alone.
            cursor.execute(f"PRAGMA busy_timeout = {_TIDY_MILLISECONDS}")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()
            cursor.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")

    def claim(self) -> bool:
        """Take the lock file for the life of this process."""
        if self._lock is None:
            self._lock = self._try_lock()
        return self._lock is not None

    @contextlib.contextmanager
    def alone(self, connection: sqlalchemy.Connection) -> Iterator[None]:
        """Hold the lock file within a writing transaction."""
        taken = None if self._lock is not None else self._try_lock()
        if self._lock is None and taken is None:
            raise errors.StoreUnavailable(
                "the database must be migrated, but another process serves it"
            )
        try:
            yield
        finally:
            if taken is not None:
                os.close(taken)

    def time(self, clock: ports.Clock) -> times.Time:
        """Go by the clock of the one process that serves."""
        return times.of_process(clock)

    def wake_ups(self, engine: sqlalchemy.Engine) -> ports.WakeUps:
        """Hear nothing: the process that serves wakes its workers itself."""
        return wakeups.Silence()

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _try_lock(self) -> int | None:
        """Return the locked descriptor; the kernel frees it with the process, however that ends."""
        path = self._path.with_name(f"{self._path.name}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise errors.StoreUnavailable("the database's lock file cannot be opened") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor


class PostgresServer:
    """A PostgreSQL server, which lets any number of processes serve."""

    single_process = False

    def __init__(self, url: sqlalchemy.URL) -> None:
        self._url = url

    def create_engine(self) -> sqlalchemy.Engine:
        """Return an engine that notices connections which broke while they were idle."""
        network = {name: each for name, each in _NETWORK.items() if name not in self._url.query}
        engine = sqlalchemy.create_engine(
            self._url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_recycle=_RECYCLE_SECONDS,
            connect_args=network,
            **_POOL,
        )
        event.listen(engine, "connect", _settle_session)
        return engine

    def begin(self, connection: sqlalchemy.Connection, *, writes: bool) -> None:
        """Leave it to the driver, which begins with the first statement."""

    @contextlib.contextmanager
    def end(self, connection: sqlalchemy.Connection) -> Iterator[None]:
        """Send all of it and the commit at once, instead of waiting for each answer.

        After an error the server passes over the rest, so that nothing of it is committed. As a
        statement, because the driver's own commit waits for what goes before it.
        """
        driver: Any = connection.connection.driver_connection
        with driver.pipeline():
            yield
            driver.execute("COMMIT")

    def check(self) -> None:
        """Leave it to the server."""

    def turn(self) -> AbstractContextManager[object]:
        """Let the server order writers."""
        return contextlib.nullcontext()

    def tidy(self, engine: sqlalchemy.Engine) -> None:
        """Leave it to the server, which vacuums by itself."""

    def claim(self) -> bool:
        """Let everybody serve."""
        return True

    @contextlib.contextmanager
    def alone(self, connection: sqlalchemy.Connection) -> Iterator[None]:
        """Let replicas that start together migrate one after another."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_MIGRATION_SECONDS}s'")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.execute(
            sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_MIGRATION_LOCK))
        )
        yield

    def time(self, clock: ports.Clock) -> times.Time:
        """Go by the server's clock: replicas never agree on theirs."""
        return times.of_server

    def wake_ups(self, engine: sqlalchemy.Engine) -> ports.WakeUps:
        """Listen to the server."""
        return wakeups.Listener(engine)

    def close(self) -> None:
        """Hold nothing."""


def find(url: str) -> Place:
    """Return the place a URL names; raise `ConfigurationError` for one we cannot use."""
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise unusable("sqlite:///path or postgresql+psycopg://…") from None
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        if parsed.database in {None, "", ":memory:"} or parsed.query:
            raise unusable("a SQLite file: what is only in memory cannot be durable")
        return SqliteFile(Path(str(parsed.database)))
    if parsed.drivername == "postgresql+psycopg":
        return PostgresServer(parsed)
    raise unusable("sqlite:///path or postgresql+psycopg://…")


def exists(url: str) -> bool:
    """Tell whether there is a database to read; a server is taken at its word."""
    file = url.removeprefix("sqlite:///")
    return file == url or Path(file).exists()


def unusable(expectation: str) -> errors.ConfigurationError:
    """Name the setting and what it expects, never its value."""
    return errors.ConfigurationError((f"PROV_DATABASE_URL: expects {expectation}",))


def _make_private(path: Path) -> tuple[int, int]:
    """Make the file where it is missing, and close it to others; SQLite's side files follow it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):  # a device would be closed to the whole machine
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        os.fchmod(descriptor, 0o600)
        return _identity(status)
    finally:
        os.close(descriptor)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _set_pragmas(connection: Any, _record: object) -> None:
    """Make every commit durable before it returns, and readers independent of the writer."""
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    finally:
        cursor.close()


def _settle_session(connection: Any, _record: object) -> None:
    """Bound how long anything in a session may take."""
    connection.autocommit = True
    for statement in _SESSION:
        connection.execute(statement)
    connection.autocommit = False
