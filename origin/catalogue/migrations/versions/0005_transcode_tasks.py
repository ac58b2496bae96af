"""What became of each task of a video, for people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "transcode_tasks",
        sa.Column("video_id", sa.String(length=11), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("media_s", sa.Float(), nullable=True),
        sa.Column("took_s", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name=op.f("ck_transcode_tasks_state")),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_transcode_tasks_video_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("video_id", "name", name=op.f("pk_transcode_tasks")),
    )


def downgrade() -> None:
    op.drop_table("transcode_tasks")
