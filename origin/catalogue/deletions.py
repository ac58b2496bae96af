"""Deleted videos: what still has to be removed of each, and that it was there once.

A deletion is one transaction that takes the video's rows away and leaves one here; from then on nobody finds the video. What it
had in the stores goes afterwards, in steps that may be repeated; the row stays for good, so that who asks is told `gone`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.rules.names import VideoId
from origin.catalogue.engine import reading, writing
from origin.catalogue.ledger import upload_of
from origin.catalogue.outbox import VIDEO_DELETED, Event, put_event
from origin.catalogue.schema import JobState, deletions, jobs, videos


@dataclass(frozen=True, slots=True)
class Deletion:
    """`held_by` is the transcoder that was making the video, and may write until `held_until` unless it lets go before.

    `creator` is who uploaded it. Times are Unix seconds.
    """

    video_id: VideoId
    upload_id: str | None
    master_key: str | None
    creator: str | None
    deleted_by: str | None
    begun_at: float
    held_by: str | None
    held_until: float


async def begin_deletion(connection: AsyncConnection, video_id: VideoId, deleted_by: str | None, now: float) -> bool:
    """One step of the caller's transaction. False when there is no such video."""
    job_query = select(jobs.c.master_key, jobs.c.state, jobs.c.owner, jobs.c.lease_until).where(jobs.c.video_id == video_id)
    job = (await connection.execute(job_query.with_for_update())).one_or_none()
    upload = await upload_of(connection, video_id)
    held = job is not None and job.state == JobState.RUNNING
    if (await connection.execute(delete(videos).where(videos.c.id == video_id, videos.c.hidden == 0))).rowcount != 1:
        return False
    row = {
        "video_id": video_id,
        "upload_id": upload.id if upload is not None else None,
        "master_key": job.master_key if job is not None else None,
        "creator": upload.creator if upload is not None else None,
        "deleted_by": deleted_by,
        "begun_at": now,
        "held_by": job.owner if job is not None and held else None,
        "held_until": (job.lease_until or 0.0) if job is not None and held else 0.0,
    }
    await connection.execute(insert(deletions).values(**row))
    told = {"video_id": video_id, "deleted_by": deleted_by}
    await put_event(connection, Event(secrets.token_hex(16), VIDEO_DELETED, told, now))
    return True


async def find_deletion(connection: AsyncConnection, video_id: VideoId) -> Deletion | None:
    """Whether the video was there once, and what is known of it."""
    row = (await connection.execute(select(deletions).where(deletions.c.video_id == video_id))).mappings().one_or_none()
    if row is None:
        return None
    return Deletion(
        video_id=VideoId(row["video_id"]),
        upload_id=row["upload_id"],
        master_key=row["master_key"],
        creator=row["creator"],
        deleted_by=row["deleted_by"],
        begun_at=row["begun_at"],
        held_by=row["held_by"],
        held_until=row["held_until"],
    )


async def open_deletions(engine: AsyncEngine) -> list[Deletion]:
    """Those of which something may still be in a store or a cache, oldest first."""
    query = select(deletions.c.video_id).where(deletions.c.ended_at.is_(None)).order_by(deletions.c.begun_at)
    async with reading(engine) as connection:
        found = [await find_deletion(connection, VideoId(row.video_id)) for row in (await connection.execute(query)).all()]
    return [deletion for deletion in found if deletion is not None]


async def held_deletions(engine: AsyncEngine, owner: str) -> list[VideoId]:
    """Deleted videos that this transcoder was making and has not let go."""
    query = select(deletions.c.video_id).where(deletions.c.held_by == owner)
    async with reading(engine) as connection:
        return [VideoId(row.video_id) for row in await connection.execute(query)]


async def let_go(engine: AsyncEngine, video_id: VideoId, owner: str) -> None:
    """The transcoder writes nothing of this video any more."""
    held = (deletions.c.video_id == video_id, deletions.c.held_by == owner)
    async with writing(engine) as connection:
        await connection.execute(update(deletions).where(*held).values(held_by=None, held_until=0.0))


async def end_deletion(engine: AsyncEngine, video_id: VideoId, now: float) -> bool:
    """Nothing of it is left anywhere. False when somebody else said so before."""
    still_open = (deletions.c.video_id == video_id, deletions.c.ended_at.is_(None))
    async with writing(engine) as connection:
        ended = {"ended_at": now, "held_by": None}
        return (await connection.execute(update(deletions).where(*still_open).values(**ended))).rowcount == 1


async def master_in_use(connection: AsyncConnection, master_key: str) -> bool:
    """Whether a video is made of this master. On PostgreSQL nobody removes that video before the transaction ends."""
    users = select(jobs.c.video_id).where(jobs.c.master_key == master_key).with_for_update(read=True)
    return (await connection.execute(users)).first() is not None
