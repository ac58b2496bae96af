"""The store of masters is swept of what nobody refers to any more, and of nothing else."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from sqlalchemy import delete

from headwater.settings.deployment import Deployment
from origin.catalogue.engine import writing
from origin.catalogue.schema import videos
from origin.objects.files import FileObjects
from origin.uploads.leftovers import LEAST_AGE_S, sweep_leftovers
from tests.support.origin import running_api

DAY_S = 86400.0


async def test_masters_of_videos_that_are_gone_are_collected_once_they_are_old(deployment: Deployment) -> None:
    async with running_api(deployment) as api:
        kept, gone = await api.creator.upload(b"a file that stays"), await api.creator.upload(b"a file that goes")
        async with writing(api.catalogue) as connection:
            await connection.execute(delete(videos).where(videos.c.id == gone))
        masters, parts = api.stores.masters, api.stores.parts
        assert await sweep_leftovers(api.catalogue, parts, masters, DAY_S) == 0
        assert await sweep_leftovers(api.catalogue, parts, masters, DAY_S, lambda: time.time() + LEAST_AGE_S + 1) == 1
        assert [info.key async for info in masters.list("")] == [f"masters/{kept}/source"]


async def test_a_master_that_another_video_was_made_of_stays(deployment: Deployment) -> None:
    async with running_api(deployment) as api:
        first = await api.creator.upload(b"the same file")
        second = await api.creator.upload(b"the same file")
        async with writing(api.catalogue) as connection:
            await connection.execute(delete(videos).where(videos.c.id == first))
        later = lambda: time.time() + LEAST_AGE_S + 1  # noqa: E731
        assert await sweep_leftovers(api.catalogue, api.stores.parts, api.stores.masters, DAY_S, later) == 0
        assert (await api.creator.ask("GET", f"/api/v1/videos/{second}")).status == 200


async def test_what_arrived_half_when_a_process_died_is_collected(deployment: Deployment) -> None:
    async with running_api(deployment) as api:
        await api.creator.begin(5)
        assert isinstance(api.stores.masters, FileObjects)
        draft = half_a_part(api.stores.masters.root)
        assert await sweep_leftovers(api.catalogue, api.stores.parts, api.stores.masters, DAY_S) == 0
        old = time.time() - LEAST_AGE_S - 60
        os.utime(draft, (old, old))
        assert await sweep_leftovers(api.catalogue, api.stores.parts, api.stores.masters, DAY_S) == 1
        assert not await asyncio.to_thread(draft.exists)


def half_a_part(masters: Path) -> Path:
    [folder] = list((masters / "uploads").iterdir())
    draft: Path = folder / ".0123456789abcdef"
    draft.write_bytes(b"half")
    return draft
