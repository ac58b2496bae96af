"""What became of each task of a video. Written in batches and read by people; nothing is decided by it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Final

from sqlalchemy import and_, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.rules.names import VideoId
from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import JobState, TaskState, jobs, transcode_tasks, videos

AT_ONCE: Final = 200  # tasks in one statement: SQLite takes no condition of more than a thousand terms


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """One task. `media_s` is how much of the video it makes, `took_s` and `error` are of the last attempt that ended so."""

    video_id: VideoId
    name: str
    kind: str
    state: TaskState
    attempts: int
    updated_at: float
    media_s: float | None = None
    took_s: float | None = None
    error: str | None = None
    started_at: float | None = None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The job of a video as people are told of it. `ahead` jobs wait longer than this one, while it waits."""

    state: JobState
    attempts: int
    error: str | None
    created_at: float
    ahead: int


async def write_tasks(engine: AsyncEngine, entries: Collection[TaskEntry]) -> None:
    """Each in place of what was known of that task. Entries of a video that is gone are dropped."""
    async with writing(engine) as connection:
        ids = {entry.video_id for entry in entries}
        known = set((await connection.execute(select(videos.c.id).where(videos.c.id.in_(ids)))).scalars())
        kept = [entry for entry in entries if entry.video_id in known]
        c = transcode_tasks.c
        for first in range(0, len(kept), AT_ONCE):
            some = kept[first : first + AT_ONCE]
            same = [and_(c.video_id == entry.video_id, c.name == entry.name) for entry in some]
            await connection.execute(delete(transcode_tasks).where(or_(*same)))
            await connection.execute(insert(transcode_tasks), [asdict(entry) for entry in some])


async def attempts_so_far(engine: AsyncEngine, video_id: VideoId) -> dict[str, int]:
    """By task, over all coordinators that tried it."""
    query = select(transcode_tasks.c.name, transcode_tasks.c.attempts).where(transcode_tasks.c.video_id == video_id)
    async with reading(engine) as connection:
        return {row.name: row.attempts for row in await connection.execute(query)}


async def tasks_of(connection: AsyncConnection, video_id: VideoId) -> list[TaskEntry]:
    """In the order in which they were begun."""
    c = transcode_tasks.c
    query = select(transcode_tasks).where(c.video_id == video_id).order_by(c.started_at, c.name)
    names = [field.name for field in fields(TaskEntry)]
    rows = (await connection.execute(query)).mappings().all()
    return [TaskEntry(**{**{name: row[name] for name in names}, "state": TaskState(row["state"])}) for row in rows]


async def job_of(connection: AsyncConnection, video_id: VideoId) -> JobFacts | None:
    row = (await connection.execute(select(jobs).where(jobs.c.video_id == video_id))).mappings().one_or_none()
    if row is None:
        return None
    earlier = select(jobs.c.video_id).where(jobs.c.state == JobState.WAITING, jobs.c.created_at < row["created_at"])
    ahead = len((await connection.execute(earlier)).all()) if row["state"] == JobState.WAITING else 0
    return JobFacts(JobState(row["state"]), row["attempts"], row["error"], row["created_at"], ahead)
