"""Keep what output ports publish about themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table of contracts."""
    op.create_table(
        "contracts",
        sa.Column("port_id", sa.Text(), primary_key=True),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("read_at", sa.BigInteger()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    for column in ("producer", "next_at", "state"):
        op.create_index(f"ix_contracts_{column}", "contracts", [column])
