"""Tell the time that leases go by: one clock for all who serve a database.

Were an expiry written by one machine and compared by another, a clock that is ahead would free
leases that are still good. So where there is a server its clock counts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy

from provisioner import ports

Time = Callable[[sqlalchemy.Connection], datetime]
"""Return the present as an aware UTC datetime, within a transaction."""


def of_process(clock: ports.Clock) -> Time:
    """Go by the clock of this process."""
    return lambda _connection: clock()


def of_server(connection: sqlalchemy.Connection) -> datetime:
    """Ask the server, whose clock goes on during a transaction."""
    asked = sqlalchemy.select(sqlalchemy.func.clock_timestamp())
    moment: datetime = connection.execute(asked).scalar_one()
    return moment.astimezone(UTC)
