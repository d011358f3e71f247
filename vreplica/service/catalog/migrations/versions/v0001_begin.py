"""Makes the first schema: jobs, runs, points, failovers, movers, audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Times are text, ISO 8601 in UTC with microseconds: they sort and read the same everywhere.
MOMENT = sa.String(32)


def upgrade() -> None:
    op.create_table(
        "vr_job",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("last_start", MOMENT),
        sa.Column("last_end", MOMENT),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("point_time", MOMENT),
        sa.Column("durations_s", sa.JSON, nullable=False),
        sa.Column("holds", sa.JSON, nullable=False),
        sa.Column("mover", sa.String(120)),
        sa.Column("alarm", sa.String(40)),
    )
    op.create_table(
        "vr_run",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("job", sa.String(80), nullable=False, index=True),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("mover", sa.String(120), nullable=False),
        sa.Column("holds", sa.JSON, nullable=False),
        sa.Column("epoch", sa.Integer),
        sa.Column("due", MOMENT, nullable=False),
        sa.Column("queued", MOMENT, nullable=False),
        sa.Column("began", MOMENT),
        sa.Column("ended", MOMENT),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("result", sa.JSON),
        sa.Column("error", sa.Text),
    )
    # A job has one active run at a time, whichever mover plans.
    op.create_index(
        "vr_run_active",
        "vr_run",
        ["job"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running')"),
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_table(
        "vr_point",
        sa.Column("job", sa.String(80), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("level", sa.String(20), nullable=False),
        sa.Column("description", sa.JSON, nullable=False),
    )
    op.create_table(
        "vr_failover",
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("job", sa.String(80), nullable=False, index=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("seen", MOMENT, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
    )
    op.create_table(
        "vr_mover",
        sa.Column("id", sa.String(120), primary_key=True),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("joined", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
    )
    op.create_table(
        "vr_audit",
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("time", MOMENT, nullable=False, index=True),
        sa.Column("who", sa.String(120), nullable=False),
        sa.Column("what", sa.String(60), nullable=False),
        sa.Column("job", sa.String(80), index=True),
        sa.Column("data", sa.JSON, nullable=False),
    )
