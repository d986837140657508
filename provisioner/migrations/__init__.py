"""Bring a database forward to the tables of this version; there is no way back.

`HEAD` is known without Alembic, which is imported only where there is something to do: a start
against a database that is up to date stays fast.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy

from provisioner import errors

HEAD = "0007"


def current(connection: sqlalchemy.Connection) -> str | None:
    """Return the version of a database; None where it is empty."""
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(
        sqlalchemy.text("SELECT version_num FROM alembic_version")
    )
    return version


def upgrade(connection: sqlalchemy.Connection) -> None:
    """Apply what is missing, within the transaction of the connection.

    Raise `ConfigurationError` where a newer program made the database.
    """
    from alembic import command, config, script, util

    settings = config.Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    version = current(connection)
    try:
        script.ScriptDirectory.from_config(settings).get_revision(version or "base")
    except util.CommandError as exc:
        raise errors.ConfigurationError(
            ("PROV_DATABASE_URL: expects a database made by this version or an older one",)
        ) from exc
    command.upgrade(settings, "head")
