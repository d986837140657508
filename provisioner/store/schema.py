"""Draw the tables: what is asked for by value is a column, all else is JSON in one.

Times are integers (microseconds since 1970, UTC), because every database orders those alike. The
tables here describe the newest version; `provisioner.migrations` makes them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Return a moment as it is stored; a naive one raises TypeError."""
    return (moment - _EPOCH) // _MICROSECOND


class Moment(TypeDecorator[datetime]):
    """Keep an aware datetime as microseconds since 1970; a naive one raises TypeError."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Write microseconds."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Read UTC."""
        return None if value is None else _EPOCH + value * _MICROSECOND


_RowId = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

queue = Table(
    "queue",
    metadata,
    Column("key", Text, primary_key=True),
    Column("priority", SmallInteger, nullable=False),
    Column("ready_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    # The most urgent touch since the lease began: not null means "run once more".
    Column("again", SmallInteger),
    Column("owner", Text),
    Column("token", Text),
    Column("leased_until", Moment),
)
Index(
    "queue_waiting",
    queue.c.priority,
    queue.c.ready_at,
    queue.c.key,
    sqlite_where=text("token IS NULL"),
    postgresql_where=text("token IS NULL"),
)
Index(
    "queue_running",
    queue.c.leased_until,
    sqlite_where=text("token IS NOT NULL"),
    postgresql_where=text("token IS NOT NULL"),
)

queue_ports = Table(
    "queue_ports",
    metadata,
    Column("key", Text, ForeignKey("queue.key", ondelete="CASCADE"), primary_key=True),
    Column("port_id", Text, primary_key=True),
    # Handed to the present lease; a touch during the run takes it back, so that it survives.
    Column("handed", Boolean, nullable=False),
)

records = Table(
    "records",
    metadata,
    Column("key", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("namespace", Text, nullable=False, index=True),
    Column("phase", Text, nullable=False),
    Column("settled_digest", Text, nullable=False),
    Column("next_at", Moment, index=True),
    Column("verified_at", Moment),
    Column("released_at", Moment),
    Column("sealed", Text),
    Column("state", Text, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("id", Text, primary_key=True, index=True),
    Column("producer_id", Text, nullable=False, index=True),
    Column("port_id", Text, nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column("valid_from", Date),
    Column("valid_until", Date),
    Column("mode", Text, nullable=False),
)

contracts = Table(
    "contracts",
    metadata,
    Column("port_id", Text, primary_key=True),
    Column("producer", Text, nullable=False, index=True),
    Column("place", Text, nullable=False),
    Column("next_at", Moment, nullable=False, index=True),
    Column("read_at", Moment),
    Column("state", Text, nullable=False, index=True),
    Column("body", Text, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("row_id", _RowId, primary_key=True),
    Column("id", Text, nullable=False),
    Column("received_at", Moment, nullable=False, index=True),
    Column("wire", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("status_code", Integer),
    Column("touched", Text, nullable=False),
    Column("resync", Boolean, nullable=False),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("row_id", _RowId, primary_key=True),
    Column("key", Text, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column("next_at", Moment),
    Column("body", Text, nullable=False),
)
Index("outcomes_of_key", outcomes.c.key, outcomes.c.row_id)

asks = Table(
    "asks",
    metadata,
    Column("key", Text, primary_key=True),
    Column("ask", Text, primary_key=True),
    Column("asked_at", Moment, nullable=False),
)

turns = Table(
    "turns",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token", Text),
    Column("held_until", Moment),
    Column("due_at", Moment),
    Column("taken_at", Moment),
)

flags = Table(
    "flags",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
