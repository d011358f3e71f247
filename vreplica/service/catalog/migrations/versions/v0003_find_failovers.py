"""Adds indexes: each round of planning looks for failovers among millions of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("kind = 'failover'")
    op.create_index(
        "vr_run_failover", "vr_run", ["queued"], sqlite_where=where, postgresql_where=where
    )
    # `history` lists by this column.
    op.create_index("vr_run_queued", "vr_run", ["queued"])
