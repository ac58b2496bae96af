"""What killed processes and removed videos left in the store of masters. Nothing that the catalogue knows of is ever touched."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.runtime.metrics import counter
from origin.catalogue.engine import reading
from origin.catalogue.schema import jobs, videos
from origin.objects.interface import TierStore
from origin.objects.parts import PartStore

LEAST_AGE_S: Final = 86400.0  # whoever writes has long ended by then
_MASTER = re.compile(r"masters/([A-Za-z0-9_-]{11})/")

LEFTOVERS = counter("headwater_origin_leftovers_total", "Leftovers collected from the store of masters.", ["what"])


async def sweep_leftovers(
    catalogue: AsyncEngine, parts: PartStore, masters: TierStore, keep_unfinished_s: float, clock: Callable[[], float] = time.time
) -> int:
    """Returns how many things went."""
    age_s = max(LEAST_AGE_S, keep_unfinished_s)
    swept = {"part": await parts.sweep(age_s), "master": await _masterless(catalogue, masters, clock() - age_s)}
    swept["blob"] = await masters.sweep(age_s)
    for what, count in swept.items():
        LEFTOVERS.labels(what).inc(count)
    return sum(swept.values())


async def _masterless(catalogue: AsyncEngine, masters: TierStore, before: float) -> int:
    """Removes masters whose video is gone, unless another video was made of the same file."""
    gone = 0
    async for info in masters.list("masters/"):
        match = _MASTER.match(info.key)
        if match is None or info.modified_at >= before:
            continue
        async with reading(catalogue) as connection:
            video = (await connection.execute(select(videos.c.id).where(videos.c.id == match[1]))).first()
            job = (await connection.execute(select(jobs.c.video_id).where(jobs.c.master_key == info.key).limit(1))).first()
        if video is None and job is None and await masters.delete_version(info):
            gone += 1
    return gone
