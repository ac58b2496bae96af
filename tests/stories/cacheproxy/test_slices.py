"""Objects in slices at a running edge: what a part costs, what is fetched ahead, and that two versions are never mixed."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.rules.warmorder import Wanted, WarmOrder
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.rangedsite import RangedSite, ranged_site
from tests.support.scriptedparent import Asked
from tests.support.waiting import until

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


# -- what a part costs ------------------------------------------------------------------------------------------------


async def test_a_part_of_an_unknown_object_costs_the_slices_that_it_touches(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        first, last = 5 * SLICE + 100, 6 * SLICE + 200
        status, fields, body = await edge.get(PATH, Range=f"bytes={first}-{last}")
        assert (status, body) == (206, BODY[first : last + 1])
        assert fields["content-range"] == f"bytes {first}-{last}/{len(BODY)}"
        assert site.ranges == [f"bytes={5 * SLICE}-{6 * SLICE - 1}", f"bytes={6 * SLICE}-{7 * SLICE - 1}"]
        assert site.sent_bytes == 2 * SLICE


async def test_what_is_stored_of_an_object_is_not_asked_for_again(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH, Range=f"bytes={SLICE}-{SLICE + 9}")
        await edge.settled()
        status, fields, body = await edge.get(PATH, Range=f"bytes={SLICE + 5}-{2 * SLICE - 1}")
        assert (status, body) == (206, BODY[SLICE + 5 : 2 * SLICE])
        assert "hit" in fields["cache-status"]
        assert len(site.asked) == 1
        _, fields, body = await edge.get(PATH)
        assert body == BODY
        assert "fwd=partial" in fields["cache-status"]
        await edge.settled()
        assert site.sent_bytes == len(BODY), "each byte came once"
        _, fields, body = await edge.get(PATH)
        assert (body, "hit" in fields["cache-status"]) == (BODY, True)
        assert site.sent_bytes == len(BODY)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("bytes=-100", slice(-100, None)),
        (f"bytes={len(BODY) - 7}-", slice(-7, None)),
        ("bytes=0-0", slice(0, 1)),
        (f"bytes={SLICE - 1}-{SLICE}", slice(SLICE - 1, SLICE + 1)),
        (f"bytes={3 * SLICE}-{4 * SLICE - 1}", slice(3 * SLICE, 4 * SLICE)),
    ],
    ids=["suffix", "open", "first byte", "across", "exactly one slice"],
)
async def test_every_form_of_range_gives_its_bytes(deployment: Deployment, tmp_path: Path, asked: str, wanted: slice) -> None:
    expected = BODY[wanted]
    async with edge_before(deployment, tmp_path) as (edge, site):
        for _ in range(2):
            status, fields, body = await edge.get(PATH, Range=asked)
            assert (status, body) == (206, expected)
            assert fields["content-length"] == str(len(expected))
            await edge.settled()
        assert site.sent_bytes <= 3 * SLICE


async def test_several_ranges_come_as_parts_and_cost_their_slices(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        status, fields, body = await edge.get(PATH, Range=f"bytes=10-19,{9 * SLICE}-{9 * SLICE + 4}")
        assert status == 206
        boundary = fields["content-type"].partition("boundary=")[2].encode()
        parts = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in body.split(b"--" + boundary)[1:-1]]
        assert parts == [BODY[10:20], BODY[9 * SLICE : 9 * SLICE + 5]]
        assert site.sent_bytes == 2 * SLICE


async def test_a_range_beyond_the_end_is_refused_with_the_length(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        status, fields, _ = await edge.get(PATH, Range=f"bytes={len(BODY)}-")
        assert (status, fields["content-range"]) == (416, f"bytes */{len(BODY)}")
        assert site.sent_bytes <= SLICE


async def test_conditions_and_heads_cost_no_slices(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH, Range="bytes=0-0")
        await edge.settled()
        asked = len(site.asked)
        assert (await edge.get(PATH, If_None_Match='"v1"'))[0] == 304
        assert (await edge.get(PATH, If_Match='"v2"'))[0] == 412
        async with edge.client.head(edge.url(PATH)) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(BODY)))
            assert answer.headers["Accept-Ranges"] == "bytes"
        status, _, body = await edge.get(PATH, Range="bytes=0-9", If_Range='"v1"')
        assert (status, body) == (206, BODY[:10])
        assert len(site.asked) == asked
        status, _, body = await edge.get(PATH, Range="bytes=0-9", If_Range='"old"')
        assert (status, body) == (200, BODY)


async def test_an_object_that_fits_into_the_slice_that_was_asked_for_is_kept_whole(
    deployment: Deployment, tmp_path: Path
) -> None:
    small = BODY[: SLICE - 10]
    async with edge_before(deployment, tmp_path, small) as (edge, site):
        status, _, body = await edge.get(PATH, Range="bytes=5-9")
        assert (status, body) == (206, small[5:10])
        await edge.settled()
        status, fields, body = await edge.get(PATH)
        assert (status, body, "hit" in fields["cache-status"]) == (200, small, True)
        assert "content-range" not in fields
        assert len(site.asked) == 1


async def test_an_object_below_the_threshold_is_kept_whole(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path, BODY[: 2 * SLICE]) as (edge, site):
        assert (await edge.get(PATH))[2] == BODY[: 2 * SLICE]
        await edge.settled()
        assert site.ranges == [None]
        assert edge.store.in_ram(KEY) is not None


# -- reading on -------------------------------------------------------------------------------------------------------


async def test_a_whole_object_is_read_in_slices_and_no_byte_comes_twice(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path, max_object="256 KiB") as (edge, site):
        status, fields, body = await edge.get(PATH)
        assert (status, body) == (200, BODY)
        assert fields["content-length"] == str(len(BODY))
        assert site.ranges[0] is None
        asked = [re.fullmatch(r"bytes=(\d+)-(\d+)", one or "") for one in site.ranges[1:]]
        assert sorted(int(one[1]) for one in asked if one) == list(range(SLICE, len(BODY), SLICE))
        assert all(one.fields["if-range"] == '"v1"' for one in site.asked[1:])
        await edge.settled()
        _, fields, body = await edge.get(PATH)
        assert (body, "hit" in fields["cache-status"]) == (BODY, True)


@pytest.mark.parametrize("ahead", [0, 1, 3])
async def test_as_many_slices_as_said_are_fetched_ahead_at_the_same_time(
    deployment: Deployment, tmp_path: Path, ahead: int
) -> None:
    async with edge_before(deployment, tmp_path, slices={**SLICES, "ahead": ahead}) as (edge, site):

        def hold(asked: Asked) -> None:
            if asked.fields.get("range", "").startswith(f"bytes={6 * SLICE}-"):
                site.free.clear()

        site.on_ask = hold
        reading = asyncio.create_task(edge.get(PATH, Range="bytes=0-"))
        await until(lambda: site.open == 1 + ahead)
        site.free.set()
        assert (await reading)[2] == BODY
        assert site.open_at_most == 1 + ahead


async def test_a_client_that_leaves_costs_no_more_than_what_is_on_its_way(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.free.clear()
        reading = asyncio.create_task(edge.get(PATH, Range="bytes=0-"))
        await until(lambda: len(site.asked) >= 2)
        reading.cancel()
        await edge.settled()
        assert len(site.asked) <= 3
        site.free.set()
        assert (await edge.get(PATH))[2] == BODY


async def test_a_thousand_clients_of_one_slice_cost_one_question(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path, stall_timeout="60 s") as (edge, site):
        site.free.clear()
        asked = f"bytes={2 * SLICE}-{2 * SLICE + 99}"
        clients = [asyncio.create_task(edge.get(PATH, Range=asked)) for _ in range(1000)]

        def followers() -> int:
            return sum(fill.followers for fill in edge.proxy.fills._shared.values())

        await until(lambda: followers() == 1000)
        site.free.set()
        answers = await asyncio.gather(*clients)
        assert {(status, body) for status, _, body in answers} == {(206, BODY[2 * SLICE : 2 * SLICE + 100])}
        assert len(site.asked) == 1


# -- parents that fail ------------------------------------------------------------------------------------------------


async def test_a_parent_that_dies_in_a_slice_is_resumed_in_it(deployment: Deployment, tmp_path: Path) -> None:
    at = 2 * SLICE + 1000
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.breaks_at = at

        def whole_again(asked: Asked) -> None:
            if asked.fields.get("range") == f"bytes={at}-{3 * SLICE - 1}":
                site.breaks_at = None

        site.on_ask = whole_again
        assert (await edge.get(PATH))[2] == BODY
        assert f"bytes={at}-{3 * SLICE - 1}" in site.ranges


async def test_without_a_parent_that_goes_on_the_client_can_tell(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.breaks_at = 2 * SLICE + 1000
        got = await cut_off_read(edge)
        assert BODY.startswith(got)
        assert len(got) <= site.breaks_at
        site.breaks_at = None
        assert (await edge.get(PATH))[2] == BODY


async def test_a_weak_validator_makes_no_slices(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.etag = 'W/"v1"'
        status, _, body = await edge.get(PATH, Range=f"bytes={SLICE}-")
        assert (status, body) == (206, BODY[SLICE:])
        assert site.ranges == [f"bytes={SLICE}-{2 * SLICE - 1}", None]
        await edge.settled()
        assert "hit" in (await edge.get(PATH))[1]["cache-status"]


async def test_a_parent_without_ranges_makes_no_slices(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.gives_ranges = False
        site.fields = ("Cache-Control: max-age=60",)
        status, _, body = await edge.get(PATH, Range=f"bytes={SLICE}-")
        assert (status, body) == (206, BODY[SLICE:])
        await edge.settled()
        assert (await edge.get(PATH))[2] == BODY
        assert len(site.asked) == 1


async def test_a_parent_that_promises_ranges_and_ignores_them_is_found_out_and_asked_for_the_whole(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.gives_ranges = False
        assert BODY.startswith(await cut_off_read(edge))
        assert (await edge.get(PATH))[2] == BODY
        await edge.settled()
        asked = len(site.asked)
        assert (await edge.get(PATH))[2] == BODY
        assert len(site.asked) == asked


# -- a version that changes -------------------------------------------------------------------------------------------


async def test_a_change_between_two_slices_cuts_the_client_off_and_the_next_one_gets_the_new_version(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with edge_before(deployment, tmp_path, slices={**SLICES, "ahead": 0}) as (edge, site):

        def change(asked: Asked) -> None:
            if asked.fields.get("range", "").startswith(f"bytes={4 * SLICE}-"):
                site.body, site.etag = OTHER, '"v2"'

        site.on_ask = change
        got = await cut_off_read(edge)
        assert got == BODY[: 4 * SLICE]
        status, fields, body = await edge.get(PATH)
        assert (status, body, fields["etag"]) == (200, OTHER, '"v2"')
        await edge.settled()
        status, fields, body = await edge.get(PATH, Range="bytes=0-9")
        assert (body, fields["etag"]) == (OTHER[:10], '"v2"')


async def test_a_change_that_shows_before_the_header_is_no_trouble_to_the_client(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH, Range="bytes=0-9")
        await edge.settled()
        site.body, site.etag = OTHER, '"v2"'
        status, fields, body = await edge.get(PATH, Range=f"bytes={5 * SLICE}-{5 * SLICE + 9}")
        assert (status, body, fields["etag"]) == (206, OTHER[5 * SLICE : 5 * SLICE + 10], '"v2"')
        status, fields, body = await edge.get(PATH, Range="bytes=0-9")
        assert (body, fields["etag"]) == (OTHER[:10], '"v2"')


async def test_if_range_with_the_old_tag_gets_all_of_the_new_version(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH, Range="bytes=0-9")
        await edge.settled()
        site.body, site.etag = OTHER, '"v2"'
        status, _, body = await edge.get(PATH, Range=f"bytes={5 * SLICE}-", If_Range='"v1"')
        assert (status, body) == (200, OTHER)


async def test_a_stale_object_in_slices_is_asked_about_by_its_validator(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH)
        await edge.settled()
        sent = site.sent_bytes
        await purge(edge, PurgeKind.OBJECT, KEY, soft=True)
        _, fields, body = await edge.get(PATH)
        assert (body, "fwd=stale" in fields["cache-status"]) == (BODY, True)
        assert (site.asked[-1].fields["if-none-match"], site.sent_bytes) == ('"v1"', sent)
        await purge(edge, PurgeKind.OBJECT, KEY, soft=True)
        site.body, site.etag = OTHER, '"v2"'
        status, fields, body = await edge.get(PATH, Range=f"bytes={2 * SLICE}-{2 * SLICE + 9}")
        assert (status, body) == (206, OTHER[2 * SLICE : 2 * SLICE + 10])
        assert site.sent_bytes == sent + SLICE


# -- what is left of a version ----------------------------------------------------------------------------------------


def held(edge: RunningEdge) -> int:
    """How many objects the store has on disk: heads and slices."""
    return len(edge.store.disk.index)


async def test_the_slices_of_a_replaced_version_are_dropped_at_once(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH)
        await edge.settled()
        assert held(edge) == 1 + 17
        await purge(edge, PurgeKind.OBJECT, KEY, soft=True)
        site.body, site.etag = OTHER, '"v2"'
        await edge.get(PATH, Range=f"bytes={2 * SLICE}-{2 * SLICE + 9}")
        await edge.settled()
        assert held(edge) == 1 + 1
        await purge(edge, PurgeKind.OBJECT, KEY, soft=True)
        site.body, site.etag = b"now it is small", '"v3"'
        assert (await edge.get(PATH))[2] == site.body
        await edge.settled()
        assert held(edge) == 1
        assert edge.store.ram_taken_bytes < SLICE


async def test_so_are_those_of_one_that_a_parent_disproves(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH, Range=f"bytes=0-{6 * SLICE}")
        await edge.settled()
        site.body, site.etag = OTHER, '"v2"'
        assert (await edge.get(PATH, Range=f"bytes={9 * SLICE}-{9 * SLICE + 9}"))[2] == OTHER[9 * SLICE : 9 * SLICE + 10]
        await edge.settled()
        assert held(edge) == 1 + 1


async def test_an_order_to_fetch_ahead_brings_all_slices(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH, Range=f"bytes={3 * SLICE}-{3 * SLICE + 9}")
        await edge.settled()
        for expected in ((1, 0, 0), (0, 1, 0)):
            report = (await edge.proxy.warmer.carry_out(WarmOrder((Wanted(KEY),)))).members()
            assert (report["fetched"], report["present"], report["failed"]) == expected
        await edge.settled()
        asked = len(site.asked)
        assert site.sent_bytes == len(BODY)
        _, fields, body = await edge.get(PATH)
        assert (body, "; hit" in fields["cache-status"], len(site.asked)) == (BODY, True, asked)


async def test_an_order_says_when_slices_could_not_be_had(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.breaks_at = 9 * SLICE + 100
        report = (await edge.proxy.warmer.carry_out(WarmOrder((Wanted(KEY),)))).members()
        assert (report["fetched"], report["failed"]) == (0, 1)
        assert "slices of it could not be had" in report["failures"][0]["reason"]


# -- purges -----------------------------------------------------------------------------------------------------------

EVERY_WAY = [
    (PurgeKind.OBJECT, KEY),
    (PurgeKind.PREFIX, "video/videos/abcdefghijA"),
    (PurgeKind.TAG, "abcdefghijA"),
    (PurgeKind.TAG, "of-the-site"),
    (PurgeKind.EVERYTHING, ""),
]


@pytest.mark.parametrize(("kind", "target"), EVERY_WAY)
async def test_a_purge_drops_every_slice_even_of_the_same_validator(
    deployment: Deployment, tmp_path: Path, kind: PurgeKind, target: str
) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.fields = (*site.fields, "Cache-Tag: of-the-site")
        await edge.get(PATH)
        await edge.settled()
        await purge(edge, kind, target)
        site.body = OTHER  # the same ETag: a site's mistake that the purge is to mend
        assert (await edge.get(PATH))[2] == OTHER


async def test_a_purge_in_the_middle_of_a_read_cuts_it_off_rather_than_mix(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path, slices={**SLICES, "ahead": 0}) as (edge, site):
        reached = asyncio.Event()

        def hold(asked: Asked) -> None:
            if asked.fields.get("range", "").startswith(f"bytes={4 * SLICE}-"):
                site.free.clear()
                reached.set()

        site.on_ask = hold
        reading = asyncio.create_task(cut_off_read(edge))
        await reached.wait()
        await purge(edge, PurgeKind.OBJECT, KEY)
        site.on_ask = None
        site.free.set()
        assert await reading == BODY[: 5 * SLICE]
        site.body = OTHER
        assert (await edge.get(PATH))[2] == OTHER


async def test_slices_survive_a_restart(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, _):
        await edge.get(PATH)
        await edge.settled()
    async with edge_before(deployment, tmp_path, OTHER) as (edge, site):
        _, fields, body = await edge.get(PATH)
        assert (body, "hit" in fields["cache-status"], site.asked) == (BODY, True, [])


async def test_slices_keep_to_the_budgets(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path, ram="1 MiB", disk="512 KiB", spool_in_ram="64 KiB") as (edge, site):
        for _ in range(2):
            assert (await edge.get(PATH))[2] == BODY
            await edge.settled()
            assert edge.store.ram_taken_bytes <= 1024 * 1024
            assert edge.store.disk.index.used_bytes <= 512 * 1024
        assert site.sent_bytes >= len(BODY)


async def test_a_client_that_takes_only_what_is_stored_is_told_when_a_part_is_missing(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        await edge.get(PATH, Range="bytes=0-9")
        await edge.settled()
        only = {"Cache_Control": "only-if-cached"}
        assert (await edge.get(PATH, Range="bytes=0-9", **only))[0] == 206
        assert (await edge.get(PATH, **only))[0] == 504
        assert len(site.asked) == 1


async def test_it_is_explained_how_much_of_an_object_is_there(deployment: Deployment, tmp_path: Path) -> None:
    async with edge_before(deployment, tmp_path) as (edge, _):
        await edge.get(PATH, Range=f"bytes=0-{2 * SLICE - 1}")
        await edge.settled()
        told = await edge.proxy.explain(KEY)
        assert (told["stored"]["status"], told["stored"]["size_bytes"], told["next"]) == (200, len(BODY), "serve")
        assert told["stored"]["slices"] == {"slice_bytes": SLICE, "count": 17, "looked_at": 17, "stored": 2}
