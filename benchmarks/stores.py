"""Give the service a store of either kind, and look into it from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@contextlib.contextmanager
def opened(kind: str, root: Path) -> Iterator[str]:
    """Yield the URL of an empty store; for PostgreSQL a server of its own is started."""
    if kind == "sqlite":
        yield f"sqlite:///{root}/provisioner.db"
        return
    from tests import database_server  # the tests' own way to a server

    if database_server.programs() is None:
        raise SystemExit("no PostgreSQL server: apt-get install postgresql")
    with database_server.running() as server:
        yield server.url(server.create())


class Look:
    """Read the store beside the service, and never write."""

    def __init__(self, url: str) -> None:
        parsed = sqlalchemy.make_url(url)
        if parsed.drivername == "sqlite":
            file = Path(str(parsed.database)).as_uri()
            parsed = parsed.set(database=file, query={"mode": "ro", "uri": "true"})
        # A connection that outlives the service's restart goes on reading the file's old log.
        self._engine = sqlalchemy.create_engine(parsed, poolclass=sqlalchemy.NullPool)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def is_idle(self) -> bool:
        """Tell whether the queue is empty."""
        return not self._rows("SELECT key FROM queue LIMIT 1")

    def outcomes(self) -> int:
        """Return the number of the last outcome."""
        ((last,),) = self._rows("SELECT coalesce(max(row_id), 0) FROM outcomes")
        return int(last)

    def all(self) -> dict[str, list[Any]]:
        """Return every row of every table."""
        tables = sqlalchemy.inspect(self._engine).get_table_names()
        return {table: self._rows(f"SELECT * FROM {table}") for table in sorted(tables)}

    def _rows(self, statement: str) -> list[Any]:
        with self._engine.connect() as connection:
            return sorted(map(tuple, connection.exec_driver_sql(statement)), key=repr)
