"""Alembic, driven from code: the migrations are part of the package and run when a process opens the catalogue.

Two locks make starting at once safe: a file beside the data for the processes of one machine, and on PostgreSQL an
advisory lock for those of several.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

MIGRATIONS: Final = Path(__file__).parent / "migrations"
ADVISORY_LOCK: Final = 0x68656164  # "head"; any number that nobody else on this database takes


async def migrate_under_lock(engine: AsyncEngine, lock_file: Path) -> None:
    """Brings the catalogue to the newest revision. Waits for another process that does the same. Runs in its own thread."""
    with _locked(lock_file):
        try:
            async with engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
                await connection.run_sync(upgrade)
        finally:
            await engine.dispose()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Runs the migrations up to `revision` inside the connection's transaction."""
    config = _config(connection)
    if MigrationContext.configure(connection).get_current_heads() == tuple(ScriptDirectory.from_config(config).get_heads()):
        return
    command.upgrade(config, revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Takes migrations back down to `revision`; `base` leaves nothing."""
    command.downgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Holds an exclusive lock on `file`; the kernel releases it when the process dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
