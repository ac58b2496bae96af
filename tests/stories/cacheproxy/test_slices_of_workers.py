"""A large object at a node of several workers: what one that does not own all of its slices reports of an order to fetch it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from headwater.cacheproxy.store.shares import Share
from headwater.rules.slices import Version, slice_key
from headwater.rules.warmorder import Wanted, WarmOrder, WarmOutcome
from headwater.runtime.workerplace import place_socket
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import running_edge, with_parents
from tests.support.rangedsite import ranged_site
from tests.support.sliced import SLICE, SLICES

SHARE = Share(0, 2)
BODY = os.urandom(18 * SLICE)


def key_of_mine_with_slices_of_the_other() -> str:
    keys = (f"video/videos/abcdefghijA/master{number}.mp4" for number in range(100))
    version = Version('"v1"', len(BODY))
    return next(key for key in keys if SHARE.owns(key) and not SHARE.owns(slice_key(key, version, SLICE, 16)))


async def test_a_slice_that_its_owner_gave_is_there_though_the_owner_is_still_writing_it(
    deployment: Deployment, tmp_path: Path
) -> None:
    # Too little memory for a slice: who does not own it cannot keep it.
    cache = CacheSettings.model_validate({"slices": SLICES, "ram": "1 MiB"})
    async with (
        ranged_site(BODY) as (site, parent),
        running_edge(with_parents(deployment, [parent.address]), tmp_path, cache, share=SHARE) as edge,
    ):
        site.fields = (*site.fields, "Headwater-Outcome: miss")
        owner = await asyncio.start_unix_server(parent._serve, str(place_socket(tmp_path, 1)))
        try:
            report = await edge.proxy.warmer.carry_out(WarmOrder((Wanted(key_of_mine_with_slices_of_the_other()),)))
        finally:
            owner.close()
    assert any(asked.fields.get("headwater-slice") for asked in site.asked), "the owner was asked"
    assert (report.counts[WarmOutcome.FETCHED], report.failures) == (1, [])
    assert report.size_bytes == len(BODY)
