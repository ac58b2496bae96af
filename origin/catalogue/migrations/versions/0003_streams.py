"""Uploads that arrive as a stream, in several dialects; pieces of a video to come; whole files told by their parts' digests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("videos") as videos:
        videos.add_column(sa.Column("hidden", sa.Integer(), server_default="0", nullable=False))
    with op.batch_alter_table("uploads") as uploads:
        uploads.add_column(sa.Column("dialect", sa.String(length=16), server_default="parts", nullable=False))
        uploads.add_column(sa.Column("form", sa.String(length=16), server_default="whole", nullable=False))
        uploads.add_column(sa.Column("said", sa.Text(), nullable=True))
        uploads.add_column(sa.Column("parts_sha256", sa.String(length=64), nullable=True))
    op.create_index("ix_uploads_same", "uploads", ["parts_sha256"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_uploads_same", table_name="uploads")
    with op.batch_alter_table("uploads") as uploads:
        for column in ("parts_sha256", "said", "form", "dialect"):
            uploads.drop_column(column)
    with op.batch_alter_table("videos") as videos:
        videos.drop_column("hidden")
