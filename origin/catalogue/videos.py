"""Reading and listing videos with their renditions. Rows become immutable values; nobody outside sees a database row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.rules.names import VideoId
from origin.catalogue.schema import RenditionState, VideoState, renditions, videos


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a video failed: a stable word and a sentence for people."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rendition:
    """One rung as the catalogue knows it. `frame_rate` is a fraction in text; rates are bits per second."""

    codec: str
    rung: str
    kind: str
    state: RenditionState
    progress: float
    width: int | None
    height: int | None
    frame_rate: str | None
    codecs: str | None
    bandwidth_bps: int | None
    average_bandwidth_bps: int | None
    vmaf_mean: float | None = None
    vmaf_low: float | None = None
    vmaf_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """One video with its renditions, videos before audio, small before large."""

    id: VideoId
    title: str
    description: str
    tags: tuple[str, ...]
    filename: str
    content_type: str
    size_bytes: int
    state: VideoState
    failure: Failure | None
    duration_s: float | None
    width: int | None
    height: int | None
    frame_rate: str | None
    has_poster: bool
    has_storyboard: bool
    created_at: float
    ready_at: float | None
    renditions: tuple[Rendition, ...]

    @property
    def progress(self) -> float:
        """0 to 1: the mean over the renditions; 0 while none is planned, 1 when none was needed and the video is ready."""
        if not self.renditions:
            return 1.0 if self.state is VideoState.READY else 0.0
        return sum(rendition.progress for rendition in self.renditions) / len(self.renditions)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list that is ordered newest first."""

    created_at: float
    video_id: VideoId


async def find_video(connection: AsyncConnection, video_id: VideoId) -> Video | None:
    row = (await connection.execute(select(videos).where(videos.c.id == video_id, videos.c.hidden == 0))).mappings().one_or_none()
    return (await _with_renditions(connection, [row]))[0] if row is not None else None


async def newest_videos(connection: AsyncConnection, before: Position | None, limit: int) -> list[Video]:
    """At most `limit` videos that come after `before` in the list, newest first."""
    query = select(videos).where(videos.c.hidden == 0).order_by(videos.c.created_at.desc(), videos.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(tuple_(videos.c.created_at, videos.c.id) < tuple_(before.created_at, before.video_id))
    return await _with_renditions(connection, (await connection.execute(query)).mappings().all())


async def _with_renditions(connection: AsyncConnection, rows: Sequence[RowMapping]) -> list[Video]:
    ids = [row["id"] for row in rows]
    query = select(renditions).where(renditions.c.video_id.in_(ids))
    found: dict[str, list[Rendition]] = {video_id: [] for video_id in ids}
    for row in (await connection.execute(query)).mappings():
        found[row["video_id"]].append(_rendition(row))
    return [_video(row, found[row["id"]]) for row in rows]


def _rendition(row: RowMapping) -> Rendition:
    rated = ("codecs", "bandwidth_bps", "vmaf_mean", "vmaf_low", "vmaf_seconds")
    columns = ("codec", "rung", "kind", "progress", "width", "height", "frame_rate", *rated)
    values: dict[str, Any] = {column: row[column] for column in columns}
    return Rendition(**values, state=RenditionState(row["state"]), average_bandwidth_bps=row["average_bandwidth_bps"])


def _video(row: RowMapping, found: list[Rendition]) -> Video:
    kind, detail = row["failure_kind"], row["failure_detail"]
    return Video(
        id=VideoId(row["id"]),
        title=row["title"],
        description=row["description"],
        tags=tuple(row["tags"]),
        filename=row["filename"],
        content_type=row["content_type"],
        size_bytes=row["size_bytes"],
        state=VideoState(row["state"]),
        failure=Failure(kind, detail or "") if kind else None,
        duration_s=row["duration_s"],
        width=row["width"],
        height=row["height"],
        frame_rate=row["frame_rate"],
        has_poster=bool(row["has_poster"]),
        has_storyboard=bool(row["has_storyboard"]),
        created_at=row["created_at"],
        ready_at=row["ready_at"],
        renditions=tuple(sorted(found, key=lambda one: (one.kind != "video", one.codec, one.height or 0, one.rung))),
    )
