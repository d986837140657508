"""Execute a statement that every delivery waits for, without working it out each time.

SQLAlchemy Core builds it, once for each kind of database and number of rows; from then on the
driver alone executes it, within the transaction of a connection. Building the execution around it
took longer than the database takes for the rows, and so did a call of the driver for each of them.
Values are the driver's own: `schema.microseconds` makes moments.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy.sql import dml

Rows = Sequence[tuple[Any, ...]]
_MOST_VALUES = 50
"""In one statement: psycopg takes those with more of them apart anew each time."""


@dataclass(frozen=True, kw_only=True)
class _Statement:
    """One statement for a number of rows, as a driver takes it."""

    sql: str
    names: Sequence[str]
    """Of the values, row by row."""
    constants: dict[str, Any]
    """What it holds besides them."""


class Prepared:
    """Insert rows, the values in the order of `columns`; a conflict does what the statement says.

    No two rows may have the same key.
    """

    def __init__(self, build: Callable[[str], dml.Insert], columns: Sequence[str]) -> None:
        self._build = build
        self._columns = columns
        self._at_once = _MOST_VALUES // len(columns)
        self._statements: dict[tuple[str, int], _Statement] = {}

    def execute(self, connection: sqlalchemy.Connection, rows: Rows) -> int:
        """Write the rows in their order; return how many rows of the table that changed.

        What ends a transaction is sent to a server without waiting for that: negative then.
        """
        changed = 0
        cursor = connection.connection.cursor()
        try:
            for first in range(0, len(rows), self._at_once):
                some = rows[first : first + self._at_once]
                statement = self._statement(connection.dialect, len(some))
                values = zip(statement.names, itertools.chain.from_iterable(some), strict=True)
                cursor.execute(statement.sql, statement.constants | dict(values))
                changed += cursor.rowcount
        finally:
            cursor.close()
        return changed

    def _statement(self, dialect: sqlalchemy.Dialect, rows: int) -> _Statement:
        kept = self._statements.get((dialect.name, rows))
        if kept is None:
            kept = self._statements[dialect.name, rows] = self._compile(dialect, rows)
        return kept

    def _compile(self, dialect: sqlalchemy.Dialect, rows: int) -> _Statement:
        """Write the SQL with a named parameter for each value of each row."""
        style = "pyformat" if dialect.name == "postgresql" else "named"
        named = [{column: f"{column}_of_{row}" for column in self._columns} for row in range(rows)]
        compiled = (
            self._build(dialect.name)
            .values([{c: sqlalchemy.bindparam(name) for c, name in row.items()} for row in named])
            .compile(dialect=type(dialect)(paramstyle=style))  # type: ignore[call-arg]
        )
        names = [name for row in named for name in row.values()]
        constants = {k: v for k, v in compiled.params.items() if k not in names}
        return _Statement(sql=str(compiled), names=names, constants=constants)
