"""Tell the time that leases go by: one clock for all who serve a database.

Were an expiry written by one machine and compared by another, a clock that is ahead would free
leases that are still good. So where there is a server its clock counts.
"""

from __future__ import annotations

import contextlib
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
    """Ask the server, whose clock goes on during a transaction; by the driver, for its time."""
    with contextlib.closing(connection.connection.cursor()) as cursor:
        cursor.execute("SELECT clock_timestamp()")
        ((answer,),) = cursor.fetchall()
    moment: datetime = answer
    return moment.astimezone(UTC)
