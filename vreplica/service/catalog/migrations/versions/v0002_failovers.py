"""Adds failovers that are requested of the service, jobs that one disabled, and notices."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("vr_run") as table:
        table.add_column(sa.Column("kind", sa.String(12), nullable=False, server_default="run"))
        table.add_column(sa.Column("order", sa.JSON))
    with op.batch_alter_table("vr_job") as table:
        table.add_column(sa.Column("off", sa.String(60)))
    op.create_table(
        "vr_receiver",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("sender", sa.String(120)),
    )
    op.create_table(
        "vr_notice",
        sa.Column("receiver", sa.String(80), primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True),
    )
