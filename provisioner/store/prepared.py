"""Execute a statement that every delivery waits for, without working it out each time.

SQLAlchemy Core builds it, once for each kind of database; from then on the driver alone executes
it, within the transaction of a connection. Building the execution around it took longer than the
database takes for the rows. Values are the driver's own: `schema.microseconds` makes moments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy.sql import dml

Rows = Sequence[dict[str, Any]]


class Prepared:
    """Insert rows, each by the names of `columns`, and do what the statement says on a conflict."""

    def __init__(self, build: Callable[[str], dml.Insert], columns: Sequence[str]) -> None:
        self._build = build
        self._columns = list(columns)
        self._compiled: dict[str, tuple[str, dict[str, Any]]] = {}

    def execute(self, connection: sqlalchemy.Connection, rows: Rows) -> int:
        """Execute the statement for each row; return how many rows of the table it changed."""
        sql, constants = self._compiled.get(connection.dialect.name) or self._compile(connection)
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(sql, [constants | row for row in rows])
            changed: int = cursor.rowcount
        finally:
            cursor.close()
        return changed

    def _compile(self, connection: sqlalchemy.Connection) -> tuple[str, dict[str, Any]]:
        """Write the SQL with named parameters, and what it holds besides the columns."""
        name = connection.dialect.name
        style = "pyformat" if name == "postgresql" else "named"
        dialect = type(connection.dialect)(paramstyle=style)  # type: ignore[call-arg]
        compiled = self._build(name).compile(dialect=dialect, column_keys=self._columns)
        constants = {k: v for k, v in compiled.params.items() if k not in self._columns}
        made = self._compiled[name] = str(compiled), constants
        return made
