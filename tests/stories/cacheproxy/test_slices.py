"""Objects in slices at a running edge: what a part costs, what is fetched ahead, and parents that fail."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from tests.support.scriptedparent import Asked
from tests.support.sliced import BODY, KEY, PATH, SLICE, SLICES, cut_off_read, edge_before
from tests.support.waiting import until

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


async def test_a_slice_of_which_a_client_had_its_part_is_fetched_to_its_end(deployment: Deployment, tmp_path: Path) -> None:
    """Else whoever wants its next bytes asks for it again."""
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.free.clear()
        site.held_from = 2 * SLICE + SLICE // 4
        assert (await edge.get(PATH, Range=f"bytes={2 * SLICE}-{2 * SLICE + 19}"))[2] == BODY[2 * SLICE : 2 * SLICE + 20]
        await until(lambda: not any(fill.followers for fill in edge.proxy.fills._shared.values()))
        site.free.set()
        await edge.settled()
        assert (await edge.get(PATH, Range=f"bytes={2 * SLICE}-{3 * SLICE - 1}"))[2] == BODY[2 * SLICE : 3 * SLICE]
        assert len(site.asked) == 1


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


async def test_a_parent_that_gives_less_than_a_slice_at_a_time_is_found_out_and_asked_for_the_whole(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):
        site.part_at_most = SLICE // 2  # which it may (RFC 9110 section 15.3.7)
        assert BODY.startswith(await cut_off_read(edge))
        assert (await edge.get(PATH))[2] == BODY
        await edge.settled()
        asked = len(site.asked)
        assert (await edge.get(PATH, Range="bytes=70000-80000"))[2] == BODY[70000:80001]
        assert len(site.asked) == asked
