"""A transcoder with a catalogue and stores of its own, and uploads that are already complete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import structlog
from distributed.utils import get_mp_context
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.mediapath import video_prefix
from headwater.rules.names import VideoId
from headwater.runtime.node import NodeContext
from headwater.settings.deployment import Deployment
from headwater.settings.origin import Rung
from origin.catalogue.engine import open_catalogue, reading, writing
from origin.catalogue.schema import JobState, VideoState, jobs, renditions, videos
from origin.objects.interface import ObjectStore
from origin.objects.open import open_store
from origin.tiers.open import open_tiers
from origin.transcode.service import transcoder_node

QUICK_LADDER = [Rung(height=144, max_bitrate_kbps=200), Rung(height=240, max_bitrate_kbps=400)]


def quick(deployment: Deployment, **changed: Any) -> Deployment:
    """The deployment with a small, fast ladder."""
    values = {
        "ladder": QUICK_LADDER,
        "first_height": 240,
        "preset": "ultrafast",
        "poll": 0.05,
        "range_segments": 2,
        "vmaf_samples": 0,
        **changed,
    }
    transcode = deployment.origin.transcode.model_copy(update=values)
    return deployment.model_copy(update={"origin": deployment.origin.model_copy(update={"transcode": transcode})})


@dataclass(frozen=True, slots=True)
class Studio:
    """What a test sees of a deployment whose uploads are made into videos."""

    deployment: Deployment
    engine: AsyncEngine
    masters: ObjectStore
    published: ObjectStore

    async def upload(self, video_id: str, file: Path) -> VideoId:
        """What a completed upload leaves behind."""
        now = time.time()
        key = f"masters/{video_id}"
        info = await self.masters.put_file(key, file, "application/octet-stream")
        video = {
            "id": video_id, "title": file.name, "tags": [], "filename": file.name, "content_type": "video/mp4",
            "size_bytes": info.size_bytes, "state": VideoState.PROCESSING, "created_at": now, "updated_at": now,
        }  # fmt: skip
        job = {"video_id": video_id, "master_key": key, "state": JobState.WAITING, "created_at": now, "updated_at": now}
        async with writing(self.engine) as connection:
            await connection.execute(insert(videos), [video])
            await connection.execute(insert(jobs), [job])
        return VideoId(video_id)

    async def video(self, video_id: VideoId) -> Any:
        async with reading(self.engine) as connection:
            return (await connection.execute(select(videos).where(videos.c.id == video_id))).one()

    async def job(self, video_id: VideoId) -> Any:
        async with reading(self.engine) as connection:
            return (await connection.execute(select(jobs).where(jobs.c.video_id == video_id))).one()

    async def renditions(self, video_id: VideoId) -> dict[str, Any]:
        async with reading(self.engine) as connection:
            rows = (await connection.execute(select(renditions).where(renditions.c.video_id == video_id))).all()
        return {f"{row.codec}/{row.rung}": row for row in rows}

    async def job_ended(self, video_id: VideoId, timeout_s: float = 120) -> Any:
        """The job's row once it is done or failed. Polls: the ledger is what other processes see too."""
        async with asyncio.timeout(timeout_s):
            while True:
                row = await self.job(video_id)
                if row.state in (JobState.DONE, JobState.FAILED):
                    return row
                await asyncio.sleep(0.05)

    async def export(self, video_id: VideoId, folder: Path) -> Path:
        """Copies everything published of a video below `folder`; returns the folder with its master manifest."""
        async for info in self.published.list(video_prefix(video_id)):
            async with self.published.as_file(info.key) as file:
                target = folder / info.key
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        return folder / video_prefix(video_id)

    async def published_names(self, video_id: VideoId) -> list[str]:
        return [info.key.removeprefix(video_prefix(video_id)) async for info in self.published.list(video_prefix(video_id))]


@asynccontextmanager
async def studio(deployment: Deployment) -> AsyncIterator[Studio]:
    async with open_catalogue(deployment) as engine:
        masters = open_store(deployment.origin.masters, deployment.data)
        yield Studio(deployment, engine, masters, open_tiers(deployment))


@asynccontextmanager
async def transcoder(deployment: Deployment) -> AsyncIterator[None]:
    """The node's own main, in this process."""
    context = NodeContext("origin-transcoder", deployment, structlog.get_logger("test"))
    context.folder.mkdir(parents=True, exist_ok=True)
    with forked_workers():
        async with transcoder_node(context):
            yield


@contextmanager
def forked_workers() -> Iterator[None]:
    """Dask's workers are forked from one process that has imported what they need: else each costs two seconds of processor time.

    Transcoders that are processes of their own start theirs as they do for users.
    """
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", "origin.transcode.graph.workerprocess"])
        yield
