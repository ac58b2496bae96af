"""The job ledger: who makes which video, by lease. The task cluster may forget everything; this may not.

waiting → running → done | failed. A lease that ran out may be taken by anyone; a result is written only by who holds it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import JobState, JobWant, jobs

OWNER_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Job:
    """`attempts` counts the claims, this one included. `wanted` says what a video that plays already gets besides."""

    video_id: VideoId
    master_key: str
    attempts: int
    wanted: JobWant | None = None


async def claim_next(engine: AsyncEngine, owner: str, now: float, lease_s: float) -> Job | None:
    """Takes the oldest job that waits or whose lease ran out, videos that do not play yet first; None when there is none."""
    free = or_(jobs.c.state == JobState.WAITING, and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until <= now))
    oldest: Select[tuple[str, str, int, str | None]] = (
        select(jobs.c.video_id, jobs.c.master_key, jobs.c.attempts, jobs.c.wanted)
        .where(free)
        .order_by(case((jobs.c.wanted.is_(None), 0), else_=1), jobs.c.created_at, jobs.c.video_id)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer anyway
    )
    async with reading(engine) as connection:
        if (await connection.execute(select(jobs.c.video_id).where(free).limit(1))).first() is None:
            return None  # looking costs the other writers nothing
    async with writing(engine) as connection:
        row = (await connection.execute(oldest)).first()
        if row is None:
            return None
        taken = {"state": JobState.RUNNING, "owner": owner, "lease_until": now + lease_s, "attempts": row.attempts + 1}
        await connection.execute(update(jobs).where(jobs.c.video_id == row.video_id).values(**taken, updated_at=now))
        return Job(VideoId(row.video_id), row.master_key, row.attempts + 1, JobWant(row.wanted) if row.wanted else None)


async def renew(engine: AsyncEngine, video_id: VideoId, owner: str, now: float, lease_s: float) -> bool:
    """Prolongs the lease. False when someone else holds the job, or it is gone: stop working on it."""
    async with writing(engine) as connection:
        done = await connection.execute(update(jobs).where(*_held(video_id, owner)).values(lease_until=now + lease_s))
        return done.rowcount == 1


async def finish(engine: AsyncEngine, video_id: VideoId, owner: str, now: float, error: str | None = None) -> bool:
    """Ends the job as done, or as failed with `error`. False when it was not the owner's any more."""
    state = JobState.FAILED if error else JobState.DONE
    ended = {"state": state, "error": error, "owner": None, "lease_until": None, "updated_at": now}
    async with writing(engine) as connection:
        done = await connection.execute(update(jobs).where(*_held(video_id, owner)).values(**ended))
        return done.rowcount == 1


async def set_aside(engine: AsyncEngine, video_id: VideoId, owner: str, until: float, reason: str) -> bool:
    """Leaves the job alone until then, when anyone may take it; `reason` says why. False when it was not the owner's any more."""
    async with writing(engine) as connection:
        aside = {"lease_until": until, "error": reason}
        return (await connection.execute(update(jobs).where(*_held(video_id, owner)).values(**aside))).rowcount == 1


async def release(engine: AsyncEngine, owner: str, now: float) -> int:
    """Gives back every job of `owner`, who begins or stops: anyone may take them at once. Returns how many."""
    async with writing(engine) as connection:
        mine = (jobs.c.state == JobState.RUNNING, jobs.c.owner == owner)
        done = await connection.execute(update(jobs).where(*mine).values(lease_until=0.0, updated_at=now))
        return done.rowcount


async def requeue(engine: AsyncEngine, video_id: VideoId, now: float) -> bool:
    """Lets a job that failed, wholly or in some rungs, be made again. False when this video has no such job."""
    async with writing(engine) as connection:
        failed = (jobs.c.video_id == video_id, jobs.c.state == JobState.FAILED)
        again = {"state": JobState.WAITING, "error": None, "updated_at": now}
        done = await connection.execute(update(jobs).where(*failed).values(**again))
        return done.rowcount == 1


async def unfinished(engine: AsyncEngine) -> frozenset[VideoId]:
    """The videos whose job waits or runs."""
    async with reading(engine) as connection:
        open_states = [JobState.WAITING, JobState.RUNNING]
        rows = await connection.execute(select(jobs.c.video_id).where(jobs.c.state.in_(open_states)))
        return frozenset(VideoId(row.video_id) for row in rows)


async def waiting(engine: AsyncEngine) -> int:
    """How many jobs wait."""
    async with reading(engine) as connection:
        count = await connection.execute(select(func.count()).select_from(jobs).where(jobs.c.state == JobState.WAITING))
        return int(count.scalar_one())


def _held(video_id: VideoId, owner: str) -> tuple[ColumnElement[bool], ...]:
    return (jobs.c.video_id == video_id, jobs.c.state == JobState.RUNNING, jobs.c.owner == owner)
