"""Opening the catalogue: SQLite beside the data by default, PostgreSQL by URL; migrated before anyone reads it.

On SQLite every transaction begins IMMEDIATE unless it is opened by `reading`: a transaction that reads first and writes
later would otherwise fail at once with SQLITE_BUSY_SNAPSHOT when another process wrote between (https://sqlite.org/isolation.html),
however long the busy timeout is. `synchronous=FULL` keeps what was acknowledged over a power cut as well as over a kill.

Work is cancelled in the middle of a statement: when a node stops, a video is deleted, a lease is lost. Its connection is closed
then, and a closed connection has ended its transaction (`_EndedWhenClosed`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from headwater.runtime.httpsite import CannotStart
from headwater.settings.deployment import Deployment
from origin.catalogue.migrate import migrate_under_lock

BUSY_TIMEOUT_MS: Final = 15_000
_READS: Final = "headwater_reads_only"


class CatalogueUnusable(CannotStart):
    """The catalogue cannot be opened; the message is one sentence that names the cure."""


@asynccontextmanager
async def open_catalogue(deployment: Deployment) -> AsyncIterator[AsyncEngine]:
    """The migrated catalogue, until the context ends. Safe for several processes that start at once."""
    url = catalogue_url(deployment)
    await asyncio.to_thread(_migrate, url, deployment.data)
    engine = catalogue_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One consistent view; never waits for a writer, never makes one wait."""
    async with engine.execution_options(**{_READS: True}).connect() as connection:
        yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction: committed when the context ends, rolled back when it raises."""
    async with engine.begin() as connection:
        yield connection


def catalogue_url(deployment: Deployment) -> URL:
    """The setting as SQLAlchemy's async URL; a relative SQLite file lies in the data folder."""
    url = make_url(deployment.origin.catalogue.url)
    if url.get_backend_name() == "sqlite":
        file = deployment.data / (url.database or "catalogue.sqlite3")
        return URL.create("sqlite+aiosqlite", database=str(file))
    return url.set(drivername="postgresql+asyncpg")


def catalogue_engine(url: URL, **options: Any) -> AsyncEngine:
    """An engine with this module's rules for transactions. The caller disposes it."""
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite:
        options = {"connect_args": {"factory": _EndedWhenClosed}, **options}
    try:
        engine = create_async_engine(url, **options)
    except ModuleNotFoundError as error:
        raise CatalogueUnusable(
            f"the catalogue {url.render_as_string()} needs {error.name}: install headwater[postgres]."
        ) from error
    if is_sqlite:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


class _EndedWhenClosed(sqlite3.Connection):
    """Closing it ends its statements. sqlite3 leaves one that has rows to give to whoever holds its cursor, the traceback of a
    cancelled task say, and SQLite keeps such a connection, with its transaction, until that cursor is gone
    (https://sqlite.org/c3ref/close.html): nobody else could write until then."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *args: Any, **options: Any) -> Any:
        cursor = super().cursor(*args, **options)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        while self._cursors:
            self._cursors.pop().close()
        super().close()


def _prepare_sqlite(connection: Any, record: object) -> None:
    """`isolation_level = None` stops the driver's own BEGINs, so that `_begin_sqlite` decides."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN DEFERRED" if reads else "BEGIN IMMEDIATE")


def _migrate(url: URL, data: Path) -> None:
    """Runs in a thread with a loop of its own: Alembic reads its scripts from disk as it goes."""
    engine = catalogue_engine(url, poolclass=NullPool)
    try:
        if url.get_backend_name() == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        asyncio.run(migrate_under_lock(engine, data / "catalogue.lock"))
    except (OSError, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        cure = "check origin.catalogue.url and who may write there"
        raise CatalogueUnusable(f"the catalogue {url.render_as_string()} cannot be opened ({cause}): {cure}.") from error
