"""How often videos were watched, by the hour, and which of them became popular."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import JobState, JobWant, RenditionState, VideoState, jobs, renditions, videos, views

HOUR_S: Final = 3600
AT_ONCE: Final = (
    1000  # videos in one statement: both engines take some 32,000 values, and a catalogue may have been away for long
)


async def add_views(engine: AsyncEngine, seen: Mapping[VideoId, int], now: float) -> None:
    """Adds to this hour's counts. Views of videos that are gone are dropped."""
    insert: Any = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    ordered = sorted(seen)
    async with writing(engine) as connection:
        for first in range(0, len(seen), AT_ONCE):
            some = ordered[first : first + AT_ONCE]
            known = (await connection.execute(select(videos.c.id).where(videos.c.id.in_(some)))).scalars()
            rows = [{"video_id": one, "hour": int(now // HOUR_S), "views": seen[VideoId(one)]} for one in sorted(known)]
            if rows:
                added = insert(views).values(rows)
                total = {"views": views.c.views + added.excluded.views}
                await connection.execute(added.on_conflict_do_update(index_elements=["video_id", "hour"], set_=total))


async def forget_views(engine: AsyncEngine, before: float) -> None:
    async with writing(engine) as connection:
        await connection.execute(delete(views).where(views.c.hour < int(before // HOUR_S)))


async def views_of(engine: AsyncEngine, video_id: VideoId, since: float) -> int:
    total = select(func.coalesce(func.sum(views.c.views), 0))
    async with reading(engine) as connection:
        counted = total.where(views.c.video_id == video_id, views.c.hour >= int(since // HOUR_S))
        return int((await connection.execute(counted)).scalar_one())


async def queue_popular(engine: AsyncEngine, since: float, at_least: int, now: float) -> list[VideoId]:
    """Queues AV1 for the videos that were watched so often since then, are wholly made and have none; returns them."""
    popular = (
        select(views.c.video_id)
        .where(views.c.hour >= int(since // HOUR_S))
        .group_by(views.c.video_id)
        .having(func.sum(views.c.views) >= at_least)
    )
    of_job = renditions.c.video_id == jobs.c.video_id
    undescribed = exists().where(of_job, (renditions.c.state != RenditionState.READY) | renditions.c.description.is_(None))
    ready = exists().where(videos.c.id == jobs.c.video_id, videos.c.state == VideoState.READY)
    due = (jobs.c.state == JobState.DONE, jobs.c.wanted.is_(None), jobs.c.video_id.in_(popular), ready, ~undescribed)
    async with reading(engine) as connection:  # looking costs the other writers nothing
        found = [VideoId(one) for one in (await connection.execute(select(jobs.c.video_id).where(*due))).scalars()]
    if found:
        queued = {"state": JobState.WAITING, "wanted": JobWant.AV1, "error": None, "updated_at": now}
        async with writing(engine) as connection:
            await connection.execute(update(jobs).where(jobs.c.video_id.in_(found), *due).values(**queued))
    return found
