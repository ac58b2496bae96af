"""Any node may be killed while a video plays: what is cached plays on, and once the node is back all is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from headwater.settings.deployment import nodes_of
from tests.support.lab import Lab
from tests.support.viewing import Viewer, path_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]

ORIGIN = ("origin-bytes", "origin-api", "origin-transcoder")
NOTICED_S = 15.0  # control probes every second; two failures or successes decide

# Logs are written a moment later, and a node that is killed in that moment never writes: what these tests ask for they know.
_asked_here: set[str] = set()


class Watched:
    """A video that plays at fra-1: `warm` media is in that edge's cache, `cold` media in nobody's."""

    def __init__(self, lab: Lab, video_id: str, master: str, warm: list[str], cold: list[str]) -> None:
        self.lab = lab
        self.video_id = video_id
        self.master = master
        self.warm = warm
        self.cold = cold
        self.viewer = Viewer(lab, lab.edges["fra-1"])

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[None]:
        """A viewer fetches the warm media over and over while the block runs; every answer must be a hit, whole."""
        ended = asyncio.Event()

        async def play_on() -> int:
            rounds = 0
            while not ended.is_set() or rounds < 2:
                for url in self.warm:
                    got = await self.viewer.get(url)
                    assert got.response.status_code == 200, (got.path, got.response.text)
                    assert got.is_hit, (got.path, got.edge_status)
                    assert len(got.response.content) == int(got.response.headers["content-length"])
                rounds += 1
            return rounds

        playing = asyncio.create_task(play_on())
        try:
            yield
        finally:
            ended.set()
            await playing

    async def a_cold_segment_plays(self, edge: str = "fra-1") -> None:
        url = self.cold.pop()
        _asked_here.add(path_of(url))
        got = await Viewer(self.lab, self.lab.edges[edge]).get(url)
        assert got.response.status_code == 200, (got.path, got.response.text)
        assert not got.is_hit


@pytest_asyncio.fixture(loop_scope="session")
async def watched(lab: Lab, cold_video: str) -> AsyncIterator[Watched]:
    """The cold video, its first segments warm at one edge. Every node runs again afterwards, whatever happened."""
    playback = await lab.ask(f"/api/v1/videos/{cold_video}/playback", params={"via": "address"})
    urls = [url for url in await Viewer(lab, lab.edges["fra-1"]).urls_of(playback["hls"]) if url.endswith((".m4s", "init.mp4"))]
    watched = Watched(
        lab,
        cold_video,
        playback["hls"],
        warm=[url for url in urls if url.endswith(("init.mp4", "segment_00000.m4s"))],
        cold=await _never_asked(lab, urls),
    )
    for url in watched.warm:
        assert (await watched.viewer.get(url)).response.status_code == 200
    yield watched
    await lab.start(*nodes_of(lab.deployment))


async def _never_asked(lab: Lab, urls: list[str]) -> list[str]:
    asked = {line["path"] for node in ("origin-bytes", *lab.deployment.shields) for line in lab.access_log(node)} | _asked_here
    return [url for url in urls if url.endswith(".m4s") and path_of(url) not in asked]


async def test_a_dead_shield_is_passed_by(lab: Lab, watched: Watched) -> None:
    for shield in lab.deployment.shields:
        async with watched.playing():
            await lab.kill(shield)
            await watched.a_cold_segment_plays()
            await lab.start(shield)
        await watched.a_cold_segment_plays()


async def test_a_dead_origin_leaves_what_is_cached(lab: Lab, watched: Watched) -> None:
    async with watched.playing():
        await lab.kill(*ORIGIN)
        # Another POP has nothing of it, but the shield has.
        got = await Viewer(lab, lab.edges["sin-1"]).get(watched.warm[-1])
        assert got.response.status_code == 200
        missing = await watched.viewer.get(watched.cold[-1])
        assert missing.response.status_code in (502, 504)
        assert missing.response.json()["type"].startswith("urn:headwater:problem:")
        await lab.start(*ORIGIN)
    await watched.a_cold_segment_plays()
    assert (await lab.ask(f"/api/v1/videos/{watched.video_id}"))["status"] == "ready"


async def test_a_dead_control_stops_nothing(lab: Lab, watched: Watched) -> None:
    before = await lab.metric("fra-1", "headwater_snapshot_version")
    async with watched.playing():
        await lab.kill("control")
        await watched.a_cold_segment_plays()
        playback = await lab.ask(f"/api/v1/videos/{watched.video_id}/playback", params={"via": "address", "region": "us"})
        assert (await Viewer(lab, lab.edges["iad-1"]).get(playback["hls"])).response.status_code == 200
        assert await lab.resolve(playback["logical_host"])
        await lab.start("control")
    await watched.a_cold_segment_plays()
    assert await lab.metric("fra-1", "headwater_snapshot_version") >= before


async def test_a_dead_edge_is_steered_around_until_it_is_back(lab: Lab, watched: Watched) -> None:
    playback = await lab.ask(f"/api/v1/videos/{watched.video_id}/playback", params={"via": "address", "region": "eu"})
    assert playback["edge"]["name"] == "fra-1"
    fra = lab.edges["fra-1"]
    await lab.kill("fra-1")
    # The player goes on by itself: the same grant holds at the alternates that it was given.
    for alternate in playback["alternates"]:
        got = await Viewer(lab, lab.edges[alternate["name"]]).get(watched.warm[0])
        assert got.response.status_code == 200
    await _until_first(lab, playback["logical_host"], fra.host, is_first=False)
    steered = await lab.ask(f"/api/v1/videos/{watched.video_id}/playback", params={"via": "address", "region": "eu"})
    assert steered["edge"]["name"] != "fra-1"

    await lab.start("fra-1")
    await _until_first(lab, playback["logical_host"], fra.host, is_first=True)
    async with watched.playing():  # its cache is as warm as it was
        await watched.a_cold_segment_plays()


async def _until_first(lab: Lab, name: str, address: str, *, is_first: bool) -> None:
    """Waits until DNS names `address` first, or no more, for viewers of the region eu."""
    async with asyncio.timeout(NOTICED_S):
        while True:
            first = (await lab.resolve(name, subnet="192.0.2.0/24"))[0]
            if (first == address) is is_first:
                return
            await asyncio.sleep(0.1)


async def test_all_state_survives_the_death_of_everything(lab: Lab, watched: Watched) -> None:
    before = await lab.ask(f"/api/v1/videos/{watched.video_id}")
    await lab.kill(*nodes_of(lab.deployment))
    await lab.start(*nodes_of(lab.deployment))
    after = await lab.ask(f"/api/v1/videos/{watched.video_id}")
    for changing in ("manifests", "poster"):  # signed anew
        before.pop(changing), after.pop(changing)
    assert after == before
    async with watched.playing():  # under the old grant, from a cache that is warm right after its start
        pass
    assert await lab.metric("origin-bytes", "headwater_origin_requests_total") == 0
    await watched.a_cold_segment_plays()
