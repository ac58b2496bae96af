"""What was counted and noted while the catalogue was away for long goes in when it is back, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import open_catalogue, reading, writing
from origin.catalogue.schema import TaskState, VideoState, transcode_tasks, videos
from origin.catalogue.tasklog import TaskEntry, write_tasks
from origin.catalogue.views import add_views, views_of

pytestmark = pytest.mark.both_catalogues

VIDEO = VideoId("AAAAAAAAAAA")
NOW = 1000.0


@pytest.fixture
async def catalogue(deployment: Deployment) -> AsyncIterator[AsyncEngine]:
    """With one video."""
    file = {"title": "t", "tags": [], "filename": "a", "content_type": "a/b", "size_bytes": 1, "state": VideoState.READY}
    async with open_catalogue(deployment) as engine:
        async with writing(engine) as connection:
            await connection.execute(insert(videos).values(id=VIDEO, **file, created_at=NOW, updated_at=NOW))
        yield engine


async def test_views_of_more_videos_than_one_statement_takes_are_all_counted(catalogue: AsyncEngine) -> None:
    gone = {VideoId(f"{number:011d}"): 1 for number in range(33_000)}
    await add_views(catalogue, {**gone, VIDEO: 7}, NOW)
    assert await views_of(catalogue, VIDEO, 0.0) == 7


async def test_notes_of_more_tasks_than_one_statement_takes_are_all_written(catalogue: AsyncEngine) -> None:
    entries = [TaskEntry(VIDEO, f"encode/360p/{number}", "encode", TaskState.DONE, 1, NOW) for number in range(1_500)]
    for _ in range(2):  # in place of what was known
        await write_tasks(catalogue, entries)
    async with reading(catalogue) as connection:
        count = select(func.count()).select_from(transcode_tasks)
        assert (await connection.execute(count)).scalar_one() == len(entries)
