"""An edge that fetches the next segments of its viewers, over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest

from headwater.cacheproxy.store.shares import Share
from headwater.runtime.metrics import value
from headwater.settings.cache import CacheSettings, PrefetchSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.scriptedparent import Asked, header, scripted_parent, serving
from tests.support.waiting import until

RUNG = "/videos/abcdefghijA/h264/360p/"
BODY = bytes(1000)


def segment(number: int, rung: str = RUNG) -> str:
    return f"{rung}segment_{number:05d}.m4s"


def settings(ahead: int = 1, bandwidth: str = "1 Gbit/s", connections: int = 64) -> CacheSettings:
    prefetch = PrefetchSettings.model_validate({"ahead": ahead, "bandwidth": bandwidth})
    return CacheSettings(prefetch=prefetch, parent_connections=connections)


def paths(asked: list[Asked]) -> list[str]:
    return [one.line.split()[1] for one in asked]


def ahead_bytes(kind: str = "") -> float:
    return value(f"headwater_ahead{kind}_bytes_total", why="prefetch") or 0


async def outcome(edge: RunningEdge, path: str, **headers: str) -> str:
    status, fields, body = await edge.get(path, **headers)
    assert (status, body) == (200, BODY)
    await edge.settled()
    return fields["cache-status"].split(";")[1].strip()


async def test_the_next_segment_is_there_before_it_is_asked_for_and_its_use_is_counted(
    deployment: Deployment, tmp_path: Path
) -> None:
    fetched, used = ahead_bytes(), ahead_bytes("_used")
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings()) as edge,
    ):
        assert await outcome(edge, segment(0)) == "fwd=uri-miss"
        assert paths(parent.asked) == [segment(0), segment(1)]
        assert "headwater-node" in parent.asked[1].fields
        for number in range(1, 5):  # a plain hit would be the fast lane's; the first use of what came ahead is not
            assert await outcome(edge, segment(number)) == "hit"
        assert paths(parent.asked) == [segment(number) for number in range(6)]
        assert (ahead_bytes() - fetched, ahead_bytes("_used") - used) == (5 * len(BODY), 4 * len(BODY))
        assert await outcome(edge, segment(1)) == "hit"
        assert ahead_bytes("_used") - used == 4 * len(BODY)


async def test_nothing_is_fetched_beyond_the_end_of_the_playlist(deployment: Deployment, tmp_path: Path) -> None:
    playlist = b"#EXTM3U\n#EXTINF:4,\nsegment_00000.m4s\n#EXTINF:4,\nsegment_00001.m4s\n#EXT-X-ENDLIST\n"

    async def site(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await serving(playlist if "playlist" in asked.line else BODY)(asked, writer)

    async with (
        scripted_parent(site) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings(ahead=3)) as edge,
    ):
        await edge.get(f"{RUNG}playlist.m3u8")
        await edge.settled()
        await outcome(edge, segment(0))
        await outcome(edge, segment(1))
        assert paths(parent.asked) == [f"{RUNG}playlist.m3u8", segment(0), segment(1)]


@pytest.mark.parametrize("form", ["query", "header"])
async def test_a_player_that_names_its_next_object_gets_that_one_and_the_key_is_the_same(
    form: str, deployment: Deployment, tmp_path: Path
) -> None:
    other = "/videos/abcdefghijA/h264/720p/"
    said = 'bl=2000,nor="..%2F720p%2Fsegment_00001.m4s"'
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings()) as edge,
    ):
        if form == "query":
            await outcome(edge, f"{segment(0)}?CMCD={quote(said, safe='')}")
        else:
            await outcome(edge, segment(0), **{"CMCD-Request": said})
        assert paths(parent.asked) == [segment(0), segment(1, other)]
        assert await outcome(edge, f"{segment(0)}?CMCD={quote('bl=7,su', safe='')}") == "hit"
        assert await outcome(edge, segment(1, other)) == "hit"


async def test_what_the_viewers_grant_does_not_cover_is_not_fetched(deployment: Deployment, tmp_path: Path) -> None:
    refused = value("headwater_prefetch_skipped_total", reason="refused") or 0
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings()) as edge,
    ):
        for named in ("../../../abcdefghijE/h264/360p/segment_00000.m4s", "%2F%2Felsewhere.test%2Fa", "..%2F..%2F..%2F..%2Fx"):
            await outcome(edge, segment(7), **{"CMCD-Request": f'nor="{named}"'})
        assert paths(parent.asked) == [segment(7)]
        assert (value("headwater_prefetch_skipped_total", reason="refused") or 0) - refused == 3


async def test_a_worker_fetches_ahead_what_another_one_will_keep(deployment: Deployment, tmp_path: Path) -> None:
    share = Share(0, 2)
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings(), share=share) as edge,
    ):
        assert {share.owns(f"video{segment(number)}") for number in range(8)} == {True, False}
        for number in range(8):
            assert await outcome(edge, segment(number)) == ("hit" if number else "fwd=uri-miss")
            await until(lambda: not edge.proxy.prefetcher._running)  # it looks for the other worker's file first
        assert paths(parent.asked) == [segment(number) for number in range(9)]


async def test_what_breaks_off_is_of_the_budget_too(deployment: Deployment, tmp_path: Path) -> None:
    async def odd_ones_break(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if int(asked.line.split()[1][-5]) % 2:
            writer.write(header("200 OK", "Content-Length: 1000", "Cache-Control: max-age=60") + BODY[:400])
            await writer.drain()
            writer.transport.close()
        else:
            await serving(BODY)(asked, writer)

    async with (
        scripted_parent(odd_ones_break) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings(bandwidth="1 kbit/s")) as edge,
    ):
        for number in range(0, 8, 2):
            await outcome(edge, segment(number))
        assert paths(parent.asked) == [segment(0), segment(1), segment(2), segment(4), segment(6)]


async def test_the_budget_ends_fetching_ahead_never_a_viewers_request(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings(bandwidth="1 kbit/s")) as edge,
    ):
        for number in range(0, 8, 2):
            await outcome(edge, segment(number))
        assert paths(parent.asked) == [segment(0), segment(1), segment(2), segment(4), segment(6)]


async def test_what_is_fetched_ahead_gives_way_to_viewers(deployment: Deployment, tmp_path: Path) -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def site(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if segment(1) in asked.line:
            writer.write(header("200 OK", "Cache-Control: max-age=60", "Content-Length: 1000") + bytes(10))
            begun.set()
            await asyncio.Event().wait()
        if "poster" in asked.line:
            await released.wait()
        await serving(BODY)(asked, writer)

    async with (
        scripted_parent(site) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings(connections=4)) as edge,
    ):
        await edge.get(segment(0))
        await begun.wait()
        waiting = asyncio.create_task(edge.get("/videos/abcdefghijA/poster.jpg"))
        await until(lambda: edge.proxy.fills.under_way == 2)
        assert segment(1) in edge.store.ahead.unused.popitem()[0]
        assert (await edge.get("/videos/abcdefghijE/h264/360p/init.mp4"))[0] == 200
        released.set()
        assert (await waiting)[0] == 200
        await edge.settled()  # the fetch ahead has ended too, although its parent never gives the rest
