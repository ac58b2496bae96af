"""Run by Alembic for every command; the connection comes from `origin.catalogue.migrate`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from origin.catalogue.schema import metadata


def run_migrations() -> None:
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise TypeError("migrations run through origin.catalogue.migrate, which passes the connection")
    # SQLite cannot alter most of a table in place; batch mode copies it.
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run_migrations()
