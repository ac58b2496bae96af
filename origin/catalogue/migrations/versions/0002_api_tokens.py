"""API tokens of creators, and whose an upload is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
    )
    with op.batch_alter_table("uploads") as uploads:
        uploads.add_column(sa.Column("creator", sa.String(length=64), nullable=True))
    op.create_index("ix_uploads_open", "uploads", ["creator", "completed_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_uploads_open", table_name="uploads")
    with op.batch_alter_table("uploads") as uploads:
        uploads.drop_column("creator")
    op.drop_table("api_tokens")
