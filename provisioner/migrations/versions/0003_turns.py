"""Keep whose turn it is to do what one replica does for all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of turns."""
    op.create_table(
        "turns",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("token", sa.Text()),
        sa.Column("held_until", sa.BigInteger()),
        sa.Column("due_at", sa.BigInteger()),
    )
