"""An edge that keeps objects in slices, before a site that knows ranges."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.rangedsite import RangedSite, ranged_site

PATH = "/videos/abcdefghijA/master.mp4"
KEY = f"video{PATH}"
SLICE = 64 * 1024
BODY = os.urandom(16 * SLICE + 1234)
OTHER = os.urandom(len(BODY))
SLICES: dict[str, Any] = {"above": "128 KiB", "size": "64 KiB", "ahead": 3}


@asynccontextmanager
async def edge_before(
    deployment: Deployment, folder: Path, body: bytes = BODY, **settings: Any
) -> AsyncIterator[tuple[RunningEdge, RangedSite]]:
    cache = CacheSettings.model_validate({"slices": SLICES, "stall_timeout": "2 s", **settings})
    async with (
        ranged_site(body) as (site, parent),
        running_edge(with_parents(deployment, [parent.address]), folder, cache) as edge,
    ):
        yield edge, site


async def cut_off_read(edge: RunningEdge) -> bytes:
    """What a client gets that is cut off; fails when it is not."""
    got = bytearray()
    try:
        async with edge.client.get(edge.url(PATH)) as answer:
            async for chunk in answer.content.iter_any():
                got += chunk
    except aiohttp.ClientPayloadError:
        return bytes(got)
    raise AssertionError("the body ended as if it were whole")


async def purge(edge: RunningEdge, kind: PurgeKind, target: str, *, soft: bool = False) -> None:
    record = PurgeRecord(edge.store.purges.sequence + 1, kind, target, soft, 0.0)
    await asyncio.to_thread(edge.store.purges.take, [record])
