"""Which jobs a coordinator works on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog

from headwater.settings.deployment import Deployment
from origin.transcode.graph.cluster import TaskCluster
from origin.transcode.graph.coordinator import Coordinator
from origin.transcode.graph.fair import FairGate
from origin.transcode.graph.journal import Journal
from origin.transcode.graph.making import Workshop
from tests.support.memory_store import MemoryObjects
from tests.support.transcoding import quick, studio

LOG = structlog.get_logger("test")


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
        journal = Journal(at.engine, lambda: now, LOG)
        shop = Workshop(at.engine, TaskCluster(None, 2), FairGate(1, 1), settings, journal, lambda: now)
        coordinator = Coordinator(shop, MemoryObjects(never), at.published, tmp_path / "work", "one", LOG)
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
