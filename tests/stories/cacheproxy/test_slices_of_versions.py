"""Objects in slices at a running edge when they change, or are purged: two versions are never mixed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater.rules.purging import PurgeKind
from headwater.rules.warmorder import Wanted, WarmOrder
from headwater.settings.deployment import Deployment
from tests.support.proxies import RunningEdge
from tests.support.scriptedparent import Asked, header
from tests.support.sliced import BODY, KEY, OTHER, PATH, SLICE, SLICES, cut_off_read, edge_before, purge

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


async def test_a_site_that_answers_304_to_the_question_for_a_slice_is_asked_for_the_whole(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with edge_before(deployment, tmp_path) as (edge, site):

        async def confused(asked: Asked, writer: asyncio.StreamWriter) -> None:
            if "if-match" in asked.fields:
                writer.write(header("304 Not Modified", 'ETag: "v1"', *site.fields))
            else:
                await site(asked, writer)

        await edge.get(PATH, Range="bytes=0-9")
        await edge.settled()
        assert site.parent is not None
        site.parent.script = confused
        for _ in range(2):
            status, _, body = await edge.get(PATH, Range=f"bytes={5 * SLICE}-{5 * SLICE + 9}")
            assert (status, body) == (206, BODY[5 * SLICE : 5 * SLICE + 10])
            await edge.settled()


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
