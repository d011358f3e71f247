"""Failovers among all runs, of which there are millions: they are looked for in every round."""

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
    # For `history`.
    op.create_index("vr_run_queued", "vr_run", ["queued"])
