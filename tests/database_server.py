"""Run a real PostgreSQL server for tests, in a temporary folder and on a socket of its own.

A test module asks for the fixtures with `pytest_plugins = ["tests.database_server"]`, so that the
server is started once a session. It is the one that Debian installs; it refuses to run as root,
so root runs it as the user `postgres`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from provisioner import store
from provisioner.seal import Seal
from tests import opened_store

_INSTALLED = Path("/usr/lib/postgresql")
_WITHIN_SECONDS = 30.0
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "shared_buffers": "16MB",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def programs() -> Path | None:
    """Return the folder of the newest server that is installed."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    there = sorted(
        _INSTALLED.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]), reverse=True
    )
    return there[0].parent if there else None


class Server:
    """A PostgreSQL server; it may be stopped, killed and started again."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._binaries = binaries
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Make the cluster."""
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "-D", "data")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", "data", "-k", str(self._folder), *options],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                **self._account(),
            )
        ends = time.monotonic() + _WITHIN_SECONDS
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                assert time.monotonic() < ends, (self._folder / "log").read_text()[-2000:]
                assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop the server at once, as if the machine had failed; what was committed stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_WITHIN_SECONDS)
            self._process = None

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Return a connection of the superuser that commits by itself."""
        return psycopg.connect(self.conninfo(database), autocommit=True)

    def conninfo(self, database: str) -> str:
        """Say how libpq reaches a database."""
        return f"host={self._folder} port=5432 user=postgres dbname={database}"

    def libpq(self) -> dict[str, str]:
        """Return the variables by which libpq finds the server."""
        return {"PGHOST": str(self._folder), "PGUSER": "postgres"}

    def url(self, database: str) -> str:
        """Return a database's PROV_DATABASE_URL."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._folder}"

    def backends(self, database: str) -> list[int]:
        """Return the processes that serve a database's connections."""
        with self.connect() as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s", [database]
            )
            return [pid for (pid,) in found]

    def create(self) -> str:
        """Make an empty database and return its name."""
        name = f"test_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def clear(self, name: str) -> None:
        """Empty every table of ours; much faster than a new database."""
        with self.connect(name) as connection, connection.transaction():
            rows = connection.execute(
                "SELECT tablename FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            ).fetchall()
            for (table,) in rows:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            **self._account(),
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def _account(self) -> dict[str, Any]:
        """Run as somebody else than root."""
        if os.geteuid() != 0:
            return {}
        return {"user": "postgres", "group": "postgres", "extra_groups": []}


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Run a server until the block ends; skip where none is installed."""
    binaries = programs()
    if binaries is None:
        reason = "no PostgreSQL server: apt-get install postgresql"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    # Not below pytest's own folder: the path of a socket may have 107 characters only.
    folder = Path(tempfile.mkdtemp(prefix="prov-pg-"))
    server = Server(folder, binaries)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Run one server for all tests of the session."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def emptied(postgresql: Server) -> Iterator[Callable[[], str]]:
    """Return what empties one migrated database and returns its URL; for one test at a time."""
    name = postgresql.create()
    url = postgresql.url(name)
    store.open_store(url, Seal([opened_store.KEY]), clock=opened_store.now).close()

    def empty() -> str:
        postgresql.clear(name)
        return url

    yield empty
    postgresql.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/var/state.db"
    empty: Callable[[], str] = request.getfixturevalue("emptied")
    return empty()


@pytest.fixture
def database(postgresql: Server) -> Iterator[str]:
    """Make an empty database and return its name."""
    name = postgresql.create()
    yield name
    postgresql.drop(name)
