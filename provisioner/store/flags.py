"""Keep the few facts that belong to no product."""

from __future__ import annotations

import sqlalchemy
from sqlalchemy import select

from provisioner.store import database, prepared, schema

RESYNC_WANTED = "resync_wanted"
_flags = schema.flags


class SqlFlags:
    """Implement `ports.Flags`."""

    def __init__(self, base: database.Database) -> None:
        self._database = base

    def get(self, name: str) -> str | None:
        """Return a flag's text."""
        with self._database.reading() as connection:
            value: str | None = connection.scalar(
                select(_flags.c.value).where(_flags.c.name == name)
            )
        return value

    def put(self, name: str, value: str | None) -> None:
        """Set a flag, or clear it with None."""
        with self._database.writing() as connection:
            if value is None:
                connection.execute(sqlalchemy.delete(_flags).where(_flags.c.name == name))
            else:
                set_flag(connection, name, value)


def set_flag(connection: sqlalchemy.Connection, name: str, value: str) -> None:
    """Set a flag within somebody's transaction."""
    _SET.execute(connection, [(name, value)])


def _set(dialect: str) -> database.Insert:
    new = database.insert_into(_flags, dialect)
    return new.on_conflict_do_update(
        index_elements=[_flags.c.name], set_={"value": new.excluded.value}
    )


_SET = prepared.Prepared(_set, ("name", "value"))
