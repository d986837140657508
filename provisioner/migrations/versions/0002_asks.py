"""Keep what a person asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of asks."""
    op.create_table(
        "asks",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("ask", sa.Text(), primary_key=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
    )
