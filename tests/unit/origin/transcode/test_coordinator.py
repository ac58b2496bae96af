"""Which jobs a coordinator works on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from headwater.settings.deployment import Deployment
from origin.objects.interface import DiskFull, ObjectStore, ObjectStoreFailed
from origin.transcode.graph.cluster import TaskCluster
from origin.transcode.graph.coordinator import Coordinator
from origin.transcode.graph.fair import FairGate
from origin.transcode.graph.journal import Journal
from origin.transcode.graph.making import Workshop
from tests.support.memory_store import MemoryObjects
from tests.support.transcoding import Studio, quick, studio

NO_ROOM = "there is no room left where the objects are"
LOG = structlog.get_logger("test")


def coordinator_of(at: Studio, masters: ObjectStore, folder: Path, clock: Callable[[], float]) -> Coordinator:
    journal = Journal(at.engine, clock, LOG)
    shop = Workshop(at.engine, TaskCluster(None, 2), FairGate(1, 1), at.deployment.origin.transcode, journal, clock)
    return Coordinator(shop, masters, at.published, folder, "one", LOG)


async def test_a_job_whose_lease_ran_out_under_its_own_transcoder_is_not_made_twice_at_once(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A catalogue that was slow for longer than a lease. The first making would be nobody's: no deletion would end it."""
    now, asked = time.time(), 0

    async def never() -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    (tmp_path / "file").write_bytes(b"x")
    async with studio(quick(deployment)) as at:
        settings = at.deployment.origin.transcode
        coordinator = coordinator_of(at, MemoryObjects(never), tmp_path / "work", lambda: now)
        video_id = await at.upload("AAAAAAAAAAA", tmp_path / "file")
        working = asyncio.create_task(coordinator.work())
        async with asyncio.timeout(10):
            while not asked:  # noqa: ASYNC110 - the ledger has no event for it
                await asyncio.sleep(0.01)
            now += settings.lease + 1
            while (await at.job(video_id)).attempts < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(4 * settings.poll)
        assert asked == 1
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_a_full_disk_is_named_also_when_several_things_were_done_at_once(deployment: Deployment, tmp_path: Path) -> None:
    """What fails beside others comes as a group of errors."""

    async def full() -> None:
        async def one(error: Exception) -> None:
            raise error

        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            outer.create_task(one(ObjectStoreFailed("it was stopped")))
            inner.create_task(one(DiskFull(NO_ROOM)))

    (tmp_path / "file").write_bytes(b"x")
    async with studio(quick(deployment)) as at:
        video_id = await at.upload("AAAAAAAAAAA", tmp_path / "file")
        working = asyncio.create_task(coordinator_of(at, MemoryObjects(full), tmp_path / "work", time.time).work())
        async with asyncio.timeout(10):
            while (await at.job(video_id)).error is None:  # noqa: ASYNC110 - the ledger has no event for it
                await asyncio.sleep(0.01)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert (await at.job(video_id)).error == f"disk-full: {NO_ROOM}"
