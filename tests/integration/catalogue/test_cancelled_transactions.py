"""Work is cancelled in the middle of a transaction: it leaves nothing behind, no change and no lock."""

from __future__ import annotations

import asyncio
import threading

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.settings.deployment import Deployment
from origin.catalogue.engine import open_catalogue, reading, writing
from origin.catalogue.schema import videos

A_MOMENT_S = 5  # far below the busy timeout


async def test_a_transaction_that_is_cancelled_while_a_statement_yields_rows_locks_nobody_out(deployment: Deployment) -> None:
    """Whoever keeps the cancelled task keeps its traceback, and with it the statement."""
    async with open_catalogue(deployment) as engine:
        task = await cancelled_in_a_statement(engine)
        assert task.cancelled()
        async with asyncio.timeout(A_MOMENT_S), writing(engine) as connection:
            await connection.execute(text("DELETE FROM videos"))
        async with reading(engine) as connection:
            assert (await connection.execute(select(videos.c.id))).all() == []


async def cancelled_in_a_statement(engine: AsyncEngine) -> asyncio.Task[None]:
    """A task that was cancelled while SQLite was at the first of its statement's rows."""
    loop, was_cancelled = asyncio.get_running_loop(), threading.Event()

    def cancel() -> None:
        task.cancel()
        was_cancelled.set()

    def meanwhile(row: int) -> int:
        """Runs within SQLite, in the connection's own thread."""
        loop.call_soon_threadsafe(cancel)
        was_cancelled.wait(A_MOMENT_S)
        return row

    async def write() -> None:
        async with writing(engine) as connection:
            raw = await connection.get_raw_connection()
            await raw.driver_connection.create_function("meanwhile", 1, meanwhile)  # type: ignore[union-attr]
            await connection.execute(text("SELECT meanwhile(column1) FROM (VALUES (1), (2))"))

    task = asyncio.create_task(write())
    await asyncio.wait([task])
    return task
