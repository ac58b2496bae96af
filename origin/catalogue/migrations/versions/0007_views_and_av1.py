"""Views by the hour, what a job makes besides the first set of rungs, and of renditions their description and their quality."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "views",
        sa.Column("video_id", sa.String(length=11), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("views", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_views_video_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("video_id", "hour", name=op.f("pk_views")),
    )
    op.create_index("ix_views_hour", "views", ["hour"], unique=False)
    op.add_column("jobs", sa.Column("wanted", sa.String(length=16), nullable=True))
    for column in (
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("vmaf_mean", sa.Float(), nullable=True),
        sa.Column("vmaf_low", sa.Float(), nullable=True),
        sa.Column("vmaf_seconds", sa.Float(), nullable=True),
    ):
        op.add_column("renditions", column)


def downgrade() -> None:
    for name in ("vmaf_seconds", "vmaf_low", "vmaf_mean", "description"):
        op.drop_column("renditions", name)
    op.drop_column("jobs", "wanted")
    op.drop_table("views")
