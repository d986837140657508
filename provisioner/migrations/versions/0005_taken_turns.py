"""Remember when a turn was last taken, so that a start sees whether anybody has since."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the moment."""
    op.add_column("turns", sa.Column("taken_at", sa.BigInteger()))
