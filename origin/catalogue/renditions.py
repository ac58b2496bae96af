"""What the transcode coordinator writes about a video: its facts, its renditions and their progress, and its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import ColumnElement, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import RenditionState, VideoState, renditions, videos


@dataclass(frozen=True, slots=True)
class PlannedRendition:
    """A rendition that will be made. Sizes and rate are of video only; the rate is a fraction, "30000/1001"."""

    codec: str
    rung: str
    kind: Literal["video", "audio"]
    width: int | None = None
    height: int | None = None
    frame_rate: str | None = None


@dataclass(frozen=True, slots=True)
class FinishedRendition:
    """What is known of a rendition once it is made. `description` is JSON, of origin/transcode/publishing/rendition.py."""

    codecs: str
    bandwidth_bps: int
    average_bandwidth_bps: int
    segments: int
    size_bytes: int
    description: str


async def record_plan(
    engine: AsyncEngine,
    video_id: VideoId,
    *,
    duration_s: float,
    width: int,
    height: int,
    frame_rate: str,
    planned: Sequence[PlannedRendition],
    now: float,
) -> frozenset[tuple[str, str]]:
    """Writes the video's facts and its planned renditions; keeps those that are ready, and returns them as (codec, rung)."""
    wanted = [(item.codec, item.rung) for item in planned]
    facts = {"duration_s": duration_s, "width": width, "height": height, "frame_rate": frame_rate, "updated_at": now}
    async with writing(engine) as connection:
        await connection.execute(update(videos).where(videos.c.id == video_id).values(**facts))
        key = tuple_(renditions.c.codec, renditions.c.rung)
        ready = (
            await connection.execute(
                select(renditions.c.codec, renditions.c.rung).where(
                    renditions.c.video_id == video_id, renditions.c.state == RenditionState.READY, key.in_(wanted)
                )
            )
        ).all()
        kept = frozenset((str(row.codec), str(row.rung)) for row in ready)
        stale = [renditions.c.video_id == video_id, *([key.not_in(sorted(kept))] if kept else [])]
        await connection.execute(delete(renditions).where(*stale))
        rows = [
            {
                "video_id": video_id,
                "codec": item.codec,
                "rung": item.rung,
                "kind": item.kind,
                "state": RenditionState.PLANNED,
                "width": item.width,
                "height": item.height,
                "frame_rate": item.frame_rate,
                "updated_at": now,
            }
            for item in planned
            if (item.codec, item.rung) not in kept
        ]
        if rows:
            await connection.execute(insert(renditions), rows)
    return kept


async def record_progress(engine: AsyncEngine, video_id: VideoId, codec: str, rung: str, progress: float, now: float) -> None:
    """`progress` is from 0 to 1; a rendition that is ready stays so."""
    async with writing(engine) as connection:
        unfinished = (*_one(video_id, codec, rung), renditions.c.state != RenditionState.READY)
        values = {"state": RenditionState.ENCODING, "progress": progress, "updated_at": now}
        await connection.execute(update(renditions).where(*unfinished).values(**values))


async def record_finished(
    engine: AsyncEngine, video_id: VideoId, codec: str, rung: str, finished: FinishedRendition, now: float
) -> None:
    values = {
        "state": RenditionState.READY,
        "progress": 1.0,
        "codecs": finished.codecs,
        "bandwidth_bps": finished.bandwidth_bps,
        "average_bandwidth_bps": finished.average_bandwidth_bps,
        "segments": finished.segments,
        "size_bytes": finished.size_bytes,
        "description": finished.description,
        "updated_at": now,
    }
    async with writing(engine) as connection:
        await connection.execute(update(renditions).where(*_one(video_id, codec, rung)).values(**values))


async def record_quality(
    engine: AsyncEngine, video_id: VideoId, codec: str, rung: str, mean: float, low: float, seconds: float
) -> None:
    """VMAF over so many seconds of samples."""
    values = {"vmaf_mean": mean, "vmaf_low": low, "vmaf_seconds": seconds}
    async with writing(engine) as connection:
        await connection.execute(update(renditions).where(*_one(video_id, codec, rung)).values(**values))


async def record_more(engine: AsyncEngine, video_id: VideoId, planned: Sequence[PlannedRendition], now: float) -> None:
    """Renditions that a video gets besides those that it has. One that is there already stays as it is."""
    async with writing(engine) as connection:
        known = select(renditions.c.codec, renditions.c.rung).where(renditions.c.video_id == video_id)
        there = {(row.codec, row.rung) for row in await connection.execute(known)}
        rows = [
            {**asdict(item), "video_id": video_id, "state": RenditionState.PLANNED, "updated_at": now}
            for item in planned
            if (item.codec, item.rung) not in there
        ]
        if rows:
            await connection.execute(insert(renditions), rows)


async def descriptions(engine: AsyncEngine, video_id: VideoId) -> list[str]:
    """Of every rendition that is ready."""
    ready = (renditions.c.video_id == video_id, renditions.c.state == RenditionState.READY)
    async with reading(engine) as connection:
        found = (await connection.execute(select(renditions.c.description).where(*ready))).scalars().all()
    return [text for text in found if text is not None]


async def drop_rendition(engine: AsyncEngine, video_id: VideoId, codec: str, rung: str) -> None:
    """A rendition that could not be made is not offered, nor waited for."""
    async with writing(engine) as connection:
        await connection.execute(delete(renditions).where(*_one(video_id, codec, rung)))


async def mark_ready(engine: AsyncEngine, video_id: VideoId, now: float) -> None:
    """The first window can be played, and more follows. `ready_at` keeps the first time."""
    async with writing(engine) as connection:
        processing = (videos.c.id == video_id, videos.c.state != VideoState.READY)
        values = {"state": VideoState.READY, "ready_at": now, "failure_kind": None, "failure_detail": None, "updated_at": now}
        await connection.execute(update(videos).where(*processing).values(**values))


async def mark_processing(engine: AsyncEngine, video_id: VideoId, now: float) -> None:
    """A video that is not ready is being made, whatever it was before."""
    async with writing(engine) as connection:
        unready = (videos.c.id == video_id, videos.c.state.not_in([VideoState.READY, VideoState.PROCESSING]))
        values = {"state": VideoState.PROCESSING, "failure_kind": None, "failure_detail": None, "updated_at": now}
        await connection.execute(update(videos).where(*unready).values(**values))


async def mark_failed(engine: AsyncEngine, video_id: VideoId, kind: str, detail: str, now: float) -> None:
    """Nothing of the video can be played. Its renditions are gone."""
    async with writing(engine) as connection:
        values = {"state": VideoState.FAILED, "failure_kind": kind, "failure_detail": detail, "updated_at": now}
        await connection.execute(update(videos).where(videos.c.id == video_id).values(**values))
        await connection.execute(delete(renditions).where(renditions.c.video_id == video_id))


async def record_stills(
    engine: AsyncEngine, video_id: VideoId, now: float, *, poster: bool = False, storyboard: bool = False
) -> None:
    """Notes which still pictures are published."""
    values = {"updated_at": now, **({"has_poster": 1} if poster else {}), **({"has_storyboard": 1} if storyboard else {})}
    async with writing(engine) as connection:
        await connection.execute(update(videos).where(videos.c.id == video_id).values(**values))


async def has_whole_rung(engine: AsyncEngine, video_id: VideoId) -> bool:
    """Whether viewers can see the video to its end in at least one rung."""
    whole = (renditions.c.video_id == video_id, renditions.c.kind == "video", renditions.c.state == RenditionState.READY)
    async with reading(engine) as connection:
        return (await connection.execute(select(renditions.c.rung).where(*whole).limit(1))).first() is not None


def _one(video_id: VideoId, codec: str, rung: str) -> tuple[ColumnElement[bool], ...]:
    return (renditions.c.video_id == video_id, renditions.c.codec == codec, renditions.c.rung == rung)
