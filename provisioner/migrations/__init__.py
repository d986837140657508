"""Bring a database forward to the tables of this version; there is no way back.

`HEAD` is known without Alembic, which is imported only where there is something to do: a start
against a database that is up to date stays fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy

from provisioner import errors

if TYPE_CHECKING:
    from alembic import config

HEAD = "0005"


def current(connection: sqlalchemy.Connection) -> str | None:
    """Return the version of a database; None where it is empty."""
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(
        sqlalchemy.text("SELECT version_num FROM alembic_version")
    )
    return version


def knows(version: str | None) -> bool:
    """Tell whether tables of a version can be made and brought forward; None is an empty one."""
    from alembic import script, util

    try:
        script.ScriptDirectory.from_config(_settings()).get_revision(version or "base")
    except util.CommandError:
        return False
    return True


def upgrade(connection: sqlalchemy.Connection, *, to: str = "head") -> None:
    """Apply what is missing, within the transaction of the connection.

    Raise `ConfigurationError` where a newer program made the database.
    """
    from alembic import command

    if not knows(current(connection)):
        raise errors.ConfigurationError(
            ("PROV_DATABASE_URL: expects a database made by this version or an older one",)
        )
    settings = _settings()
    settings.attributes["connection"] = connection
    command.upgrade(settings, to)


def _settings() -> config.Config:
    from alembic import config

    settings = config.Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return settings
