"""The ledger of uploads: who began, what arrived when an upload was completed, what it became.

Every command is one step of a transaction that the caller opens with `writing`; each may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.rules.names import VideoId
from origin.catalogue.schema import JobState, VideoState, idempotency_keys, jobs, upload_parts, uploads, videos


@dataclass(frozen=True, slots=True)
class NewVideo:
    """What the creator said about the file."""

    id: VideoId
    title: str
    description: str
    tags: tuple[str, ...]
    filename: str
    content_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload with the declared size and state of its video. `completed_at` is set once its job is in the ledger.

    `creator` is the name of the API token that began it, None where none was required.
    """

    id: str
    video_id: VideoId
    part_size_bytes: int
    size_bytes: int
    content_type: str
    state: VideoState
    created_at: float
    completed_at: float | None
    creator: str | None


@dataclass(frozen=True, slots=True)
class LedgerPart:
    """One part as it lay in the object store when the upload was completed. `sha256` is hex."""

    number: int
    size_bytes: int
    sha256: str
    arrived_at: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an idempotency key stands for."""

    request_sha256: str
    video_id: VideoId


async def begin_upload(
    connection: AsyncConnection, video: NewVideo, upload_id: str, part_size_bytes: int, now: float, creator: str | None = None
) -> None:
    parts = -(-video.size_bytes // part_size_bytes)
    row = {
        "id": video.id,
        "title": video.title,
        "description": video.description,
        "tags": list(video.tags),
        "filename": video.filename,
        "content_type": video.content_type,
        "size_bytes": video.size_bytes,
        "state": VideoState.UPLOADING,
        "created_at": now,
        "updated_at": now,
    }
    await connection.execute(insert(videos).values(**row))
    upload = {
        "id": upload_id,
        "video_id": video.id,
        "part_size_bytes": part_size_bytes,
        "parts": parts,
        "created_at": now,
        "creator": creator,
    }
    await connection.execute(insert(uploads).values(**upload))


async def remember_key(connection: AsyncConnection, key: str, remembered: Remembered, now: float) -> None:
    """Raises IntegrityError when the key is taken; the transaction is then of no use."""
    values = {"key": key, "request_sha256": remembered.request_sha256, "video_id": remembered.video_id, "created_at": now}
    await connection.execute(insert(idempotency_keys).values(**values))


async def remembered_key(connection: AsyncConnection, key: str) -> Remembered | None:
    columns = (idempotency_keys.c.request_sha256, idempotency_keys.c.video_id)
    row = (await connection.execute(select(*columns).where(idempotency_keys.c.key == key))).one_or_none()
    return Remembered(row[0], VideoId(row[1])) if row is not None else None


async def upload_of(connection: AsyncConnection, video_id: VideoId) -> Upload | None:
    return next(iter(await _uploads(connection, uploads.c.video_id == video_id)), None)


async def unfinished_uploads(connection: AsyncConnection, begun_before: float) -> list[Upload]:
    """Uploads without a job that began before the given time, oldest first."""
    return await _uploads(connection, uploads.c.completed_at.is_(None) & (uploads.c.created_at < begun_before))


async def _uploads(connection: AsyncConnection, condition: ColumnElement[bool]) -> list[Upload]:
    query = (
        select(uploads, videos.c.size_bytes, videos.c.content_type, videos.c.state)
        .join(videos, videos.c.id == uploads.c.video_id)
        .where(condition)
        .order_by(uploads.c.created_at)
    )
    return [
        Upload(
            id=row["id"],
            video_id=VideoId(row["video_id"]),
            part_size_bytes=row["part_size_bytes"],
            size_bytes=row["size_bytes"],
            content_type=row["content_type"],
            state=VideoState(row["state"]),
            created_at=row["created_at"],
            completed_at=row["completed_at"],
            creator=row["creator"],
        )
        for row in (await connection.execute(query)).mappings()
    ]


async def record_parts(connection: AsyncConnection, upload_id: str, parts: Sequence[LedgerPart]) -> None:
    """Writes down the parts that the master will be made of, in place of what was written before."""
    await connection.execute(delete(upload_parts).where(upload_parts.c.upload_id == upload_id))
    rows = [
        {
            "upload_id": upload_id,
            "number": part.number,
            "size_bytes": part.size_bytes,
            "sha256": part.sha256,
            "arrived_at": part.arrived_at,
        }
        for part in parts
    ]
    if rows:
        await connection.execute(insert(upload_parts), rows)


async def recorded_parts(connection: AsyncConnection, upload_id: str) -> list[LedgerPart]:
    query = select(upload_parts).where(upload_parts.c.upload_id == upload_id).order_by(upload_parts.c.number)
    return [
        LedgerPart(row["number"], row["size_bytes"], row["sha256"], row["arrived_at"])
        for row in (await connection.execute(query)).mappings()
    ]


async def complete_upload(connection: AsyncConnection, upload: Upload, sha256: str, master_key: str, now: float) -> bool:
    """`upload.complete`: the upload is done, its job waits and the video is processing, all in one transaction.

    False when somebody else completed it before; nothing is changed then.
    """
    done = update(uploads).where(uploads.c.id == upload.id, uploads.c.completed_at.is_(None))
    if (await connection.execute(done.values(completed_at=now, sha256=sha256))).rowcount != 1:
        return False
    job = {
        "video_id": upload.video_id,
        "master_key": master_key,
        "state": JobState.WAITING,
        "created_at": now,
        "updated_at": now,
    }
    await connection.execute(insert(jobs).values(**job))
    processing = update(videos).where(videos.c.id == upload.video_id, videos.c.state == VideoState.UPLOADING)
    await connection.execute(processing.values(state=VideoState.PROCESSING, updated_at=now))
    return True


async def forget_upload(connection: AsyncConnection, upload: Upload) -> bool:
    """Removes an unfinished upload and its video. False when it was completed or removed meanwhile."""
    unfinished = select(uploads.c.video_id).where(uploads.c.id == upload.id, uploads.c.completed_at.is_(None))
    gone = delete(videos).where(videos.c.id.in_(unfinished), videos.c.state == VideoState.UPLOADING)
    return (await connection.execute(gone)).rowcount == 1
