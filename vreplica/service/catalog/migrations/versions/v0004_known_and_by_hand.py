"""Adds when points were read, versions of movers, what commands did by hand; a row a member.

Tables of their own, so that movers of an older version that are at work go on with theirs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.String(32)


def upgrade() -> None:
    op.create_table(
        "vr_job_seen",
        sa.Column("job", sa.String(80), primary_key=True),
        sa.Column("seen", MOMENT, nullable=False),
    )
    op.create_table(
        "vr_mover_info",
        sa.Column("mover", sa.String(120), primary_key=True),
        sa.Column("version", sa.String(60), nullable=False),
        sa.Column("lease_s", sa.Float, nullable=False),
    )
    op.create_table(
        "vr_by_hand",
        sa.Column("id", sa.String(120), primary_key=True),
        sa.Column("what", sa.String(20), nullable=False),
        sa.Column("job", sa.String(80), nullable=False, index=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("began", MOMENT, nullable=False, index=True),
        sa.Column("ended", MOMENT, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
        sa.Column("error", sa.Text),
    )
    # The members of a group share the id of their failover.
    op.rename_table("vr_failover", "vr_failover_0003")
    op.drop_index("ix_vr_failover_job", "vr_failover_0003")
    op.create_table(
        "vr_failover",
        sa.Column("id", sa.String(60)),
        sa.Column("job", sa.String(80), index=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("seen", MOMENT, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", "job", name="vr_failover_id_job"),
    )
    op.execute(
        "INSERT INTO vr_failover (id, job, state, seen, facts)"
        " SELECT id, job, state, seen, facts FROM vr_failover_0003"
    )
    op.drop_table("vr_failover_0003")
