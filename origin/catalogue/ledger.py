"""The ledger of uploads: who began, what arrived when an upload was completed, what it became.

Every command is one step of a transaction that the caller opens with `writing`; each may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.rules.names import VideoId
from origin.catalogue.outbox import UPLOAD_COMPLETE, Event, put_event
from origin.catalogue.schema import Dialect, Form, JobState, VideoState, idempotency_keys, jobs, upload_parts, uploads, videos


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
    dialect: Dialect
    form: Form
    said: str | None


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload to begin. `said` is what the client wants to be told again; a size of 0 is not known yet."""

    video: NewVideo
    part_size_bytes: int
    creator: str | None
    dialect: Dialect = Dialect.PARTS
    form: Form = Form.WHOLE
    said: str | None = None


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


async def begin_upload(connection: AsyncConnection, new: NewUpload, upload_id: str, now: float) -> None:
    video = new.video
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
        "hidden": int(new.form is Form.PIECE),
    }
    await connection.execute(insert(videos).values(**row))
    upload = {
        "id": upload_id,
        "video_id": video.id,
        "part_size_bytes": new.part_size_bytes,
        "parts": -(-video.size_bytes // new.part_size_bytes),
        "created_at": now,
        "creator": new.creator,
        "dialect": new.dialect,
        "form": new.form,
        "said": new.said,
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
    """Uploads without a job that began before the given time, oldest first; pieces have none ever."""
    no_job = uploads.c.completed_at.is_(None) | (uploads.c.form == Form.PIECE)
    return await _uploads(connection, no_job & (uploads.c.created_at < begun_before))


async def open_uploads(connection: AsyncConnection) -> list[Upload]:
    """All that are not completed, oldest first."""
    return await _uploads(connection, uploads.c.completed_at.is_(None))


async def open_streams(connection: AsyncConnection) -> list[Upload]:
    """Streams that are not completed and whose size is known: all their bytes may be there."""
    stream = (uploads.c.dialect != Dialect.PARTS) & uploads.c.completed_at.is_(None) & (videos.c.size_bytes > 0)
    return await _uploads(connection, stream)


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
            dialect=Dialect(row["dialect"]),
            form=Form(row["form"]),
            said=row["said"],
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


async def note_part(connection: AsyncConnection, upload_id: str, part: LedgerPart) -> None:
    """Writes down one part as it arrives, in place of an earlier version of it."""
    await connection.execute(
        delete(upload_parts).where(upload_parts.c.upload_id == upload_id, upload_parts.c.number == part.number)
    )
    row = {"number": part.number, "size_bytes": part.size_bytes, "sha256": part.sha256, "arrived_at": part.arrived_at}
    await connection.execute(insert(upload_parts).values(upload_id=upload_id, **row))


async def declare_size(connection: AsyncConnection, upload: Upload, size_bytes: int) -> None:
    """The size of a file that was not known when its upload began."""
    unknown = (videos.c.id == upload.video_id, videos.c.size_bytes == 0)
    await connection.execute(update(videos).where(*unknown).values(size_bytes=size_bytes))
    parts = -(-size_bytes // upload.part_size_bytes)
    await connection.execute(update(uploads).where(uploads.c.id == upload.id).values(parts=parts))


async def close_piece(connection: AsyncConnection, upload: Upload, now: float) -> None:
    """A piece has arrived whole: nothing becomes of it before it is joined with others."""
    open_piece = (uploads.c.id == upload.id, uploads.c.completed_at.is_(None))
    await connection.execute(update(uploads).where(*open_piece).values(completed_at=now))


async def held(connection: AsyncConnection, creator: str | None) -> tuple[int, int, int]:
    """(open uploads of this creator, declared bytes of all open uploads, declared bytes of all videos)."""
    mine = uploads.c.creator == creator if creator is not None else uploads.c.creator.is_(None)
    unfinished = uploads.c.completed_at.is_(None)
    count = await connection.execute(select(func.count()).select_from(uploads).where(mine, unfinished))
    sizes = select(func.coalesce(func.sum(videos.c.size_bytes), 0))
    open_bytes = await connection.execute(sizes.join(uploads, uploads.c.video_id == videos.c.id).where(unfinished))
    all_bytes = await connection.execute(sizes)
    return int(count.scalar_one()), int(open_bytes.scalar_one()), int(all_bytes.scalar_one())


async def same_file(connection: AsyncConnection, parts_sha256: str) -> tuple[str, str] | None:
    """(SHA-256, master's key) of a file that arrived before in the same parts."""
    query = (
        select(uploads.c.sha256, jobs.c.master_key)
        .join(jobs, jobs.c.video_id == uploads.c.video_id)
        .where(uploads.c.parts_sha256 == parts_sha256, uploads.c.sha256.is_not(None))
        .order_by(uploads.c.completed_at)
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return (row[0], row[1]) if row is not None else None


async def complete_upload(
    connection: AsyncConnection, upload: Upload, sha256: str, master_key: str, now: float, parts_sha256: str | None = None
) -> bool:
    """`upload.complete`: the upload is done, its job waits and the video is processing, all in one transaction.

    False when somebody else completed it before; nothing is changed then.
    """
    done = update(uploads).where(uploads.c.id == upload.id, uploads.c.completed_at.is_(None))
    if (await connection.execute(done.values(completed_at=now, sha256=sha256, parts_sha256=parts_sha256))).rowcount != 1:
        return False
    job = {
        "video_id": upload.video_id,
        "master_key": master_key,
        "state": JobState.WAITING,
        "created_at": now,
        "updated_at": now,
    }
    await connection.execute(insert(jobs).values(**job))
    told = {"video_id": upload.video_id, "size_bytes": upload.size_bytes, "sha256": sha256, "master_key": master_key}
    await put_event(connection, Event(upload.id, UPLOAD_COMPLETE, told, now))
    processing = update(videos).where(videos.c.id == upload.video_id, videos.c.state == VideoState.UPLOADING)
    await connection.execute(processing.values(state=VideoState.PROCESSING, updated_at=now))
    return True


async def forget_upload(connection: AsyncConnection, upload: Upload) -> bool:
    """Removes an unfinished upload and its video, or a piece. False when it was completed or removed meanwhile."""
    open_or_piece = uploads.c.completed_at.is_(None) | (uploads.c.form == Form.PIECE)
    unfinished = select(uploads.c.video_id).where(uploads.c.id == upload.id, open_or_piece)
    gone = delete(videos).where(videos.c.id.in_(unfinished), videos.c.state == VideoState.UPLOADING)
    return (await connection.execute(gone)).rowcount == 1
