"""Make the first tables.

Written out in full: what `provisioner.store.schema` says later must not change what this made.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_MOMENT = sa.BigInteger()
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make queue, records, links, history and flags."""
    _queue()
    _records()
    _links()
    _history()
    op.create_table(
        "flags",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )


def _queue() -> None:
    op.create_table(
        "queue",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("ready_at", _MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("again", sa.SmallInteger()),
        sa.Column("owner", sa.Text()),
        sa.Column("token", sa.Text()),
        sa.Column("leased_until", _MOMENT),
    )
    waiting, running = sa.text("token IS NULL"), sa.text("token IS NOT NULL")
    op.create_index(
        "queue_waiting",
        "queue",
        ["priority", "ready_at", "key"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index(
        "queue_running", "queue", ["leased_until"], sqlite_where=running, postgresql_where=running
    )
    op.create_table(
        "queue_ports",
        sa.Column(
            "key", sa.Text(), sa.ForeignKey("queue.key", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("port_id", sa.Text(), primary_key=True),
        sa.Column("handed", sa.Boolean(), nullable=False),
    )


def _records() -> None:
    op.create_table(
        "records",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("settled_digest", sa.Text(), nullable=False),
        sa.Column("next_at", _MOMENT),
        sa.Column("verified_at", _MOMENT),
        sa.Column("released_at", _MOMENT),
        sa.Column("sealed", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
    )
    op.create_index("ix_records_namespace", "records", ["namespace"])
    op.create_index("ix_records_next_at", "records", ["next_at"])


def _links() -> None:
    op.create_table(
        "links",
        sa.Column("consumer", sa.Text(), primary_key=True),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("port_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Date()),
        sa.Column("valid_until", sa.Date()),
        sa.Column("mode", sa.Text(), nullable=False),
    )
    op.create_index("ix_links_id", "links", ["id"])
    op.create_index("ix_links_port_id", "links", ["port_id"])
    op.create_index("ix_links_producer_id", "links", ["producer_id"])


def _history() -> None:
    op.create_table(
        "deliveries",
        sa.Column("row_id", _ROW_ID, primary_key=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("wire", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer()),
        sa.Column("touched", sa.Text(), nullable=False),
        sa.Column("resync", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_deliveries_received_at", "deliveries", ["received_at"])
    op.create_table(
        "outcomes",
        sa.Column("row_id", _ROW_ID, primary_key=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("next_at", _MOMENT),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("ix_outcomes_at", "outcomes", ["at"])
    op.create_index("outcomes_of_key", "outcomes", ["key", "row_id"])
