"""Deleted videos, until nothing of them is left, and for who asks afterwards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deletions",
        sa.Column("video_id", sa.String(length=11), nullable=False),
        sa.Column("upload_id", sa.String(length=32), nullable=True),
        sa.Column("master_key", sa.Text(), nullable=True),
        sa.Column("creator", sa.String(length=64), nullable=True),
        sa.Column("deleted_by", sa.String(length=64), nullable=True),
        sa.Column("begun_at", sa.Float(), nullable=False),
        sa.Column("held_by", sa.String(length=64), nullable=True),
        sa.Column("held_until", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("video_id", name=op.f("pk_deletions")),
    )
    op.create_index("ix_deletions_open", "deletions", ["ended_at", "begun_at"], unique=False)
    op.create_index("ix_deletions_held", "deletions", ["held_by"], unique=False)
    op.create_index("ix_jobs_master", "jobs", ["master_key"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_jobs_master", table_name="jobs")
    op.drop_table("deletions")
