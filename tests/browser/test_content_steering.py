"""hls.js and dash.js, as anybody would use them, follow a drain in the middle of a play to another POP, without a stall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from playwright.async_api import Browser, Route

from headwater.rules.addresses import Address
from headwater.runtime.httpsite import serve_app
from tests.support.browser import Visit, visiting
from tests.support.clients import client_library
from tests.support.deployments import free_port
from tests.support.lab import Lab
from tests.support.media import make_clip
from tests.support.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]

PAGE = """<!doctype html><meta charset="utf-8"><title>A player</title><link rel="icon" href="data:,">
<video id="picture" muted playsinline width="320"></video>"""
# A stall is a `waiting` after the first picture; seeking aside, nothing else fires it.
WATCH = """
window.stalls = [];
picture.addEventListener("playing", () => picture.addEventListener("waiting", () => stalls.push(picture.currentTime)),
  { once: true });
"""
# Short buffers, so that a short clip is still being fetched when its POP is drained.
PLAY_HLS = """(url) => {
  const hls = new Hls({ maxBufferLength: 5, maxMaxBufferLength: 5, enableWorker: false });
  hls.loadSource(url);
  hls.attachMedia(picture);
  picture.play();
}"""
PLAY_DASH = """(url) => {
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({ debug: { logLevel: 0 }, streaming: { buffer: {
    bufferTimeDefault: 5, bufferTimeAtTopQuality: 5, bufferTimeAtTopQualityLongForm: 5, initialBufferLevel: NaN } } });
  player.initialize(picture, url, true);
}"""
PLAYERS = {
    "hls": ("hls.js/dist/hls.min.js", PLAY_HLS),
    "dash": ("dashjs/dist/modern/umd/dash.all.min.js", PLAY_DASH),
}
DRAINED = 0
SEGMENT_LATE_S = 1.5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site() -> AsyncIterator[str]:
    """Somebody's page with a video element, on another origin than all of ours."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    address = Address("127.0.0.1", free_port())
    async with serve_app(app, address, drain_s=0.1):
        yield address.url


@asynccontextmanager
async def quick_steering(lab: Lab) -> AsyncIterator[Any]:
    """Lets the test edit the lab's file; players ask each second. Afterwards all is as it was, at every edge."""
    before = lab.config.read_text()
    content = yaml.safe_load(before)

    def write() -> None:
        lab.config.write_text(yaml.safe_dump(content, sort_keys=False))

    content["dns"]["ttl"] = "1 s"
    write()
    try:
        yield content, write
    finally:
        lab.config.write_text(before)


async def told(url: str) -> dict[str, Any]:
    """The steering manifest beside a manifest."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(url.rpartition("/")[0] + "/steering.json")
        answer.raise_for_status()
        members: dict[str, Any] = answer.json()
        return members


async def until_told(url: str, wanted: Any) -> None:
    async with asyncio.timeout(20):
        while not wanted(await told(url)):  # noqa: ASYNC110 - another process's answer
            await asyncio.sleep(0.05)


def segment_hosts(visit: Visit) -> list[str]:
    """Of each segment asked for, its edge's address."""
    return [str(urlsplit(url).hostname) for url in visit.requests if urlsplit(url).path.endswith(".m4s")]


async def test_players_move_to_another_pop_when_theirs_is_drained_without_a_stall(
    browser: Browser, lab: Lab, site: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    libraries = {name: client_library(path) for name, (path, _) in PLAYERS.items()}
    clip = make_clip(tmp_path_factory.mktemp("steered") / "clip.mp4", seconds=30, width=320, height=180)
    video_id = await lab.upload(clip)
    await lab.whole_video(video_id)
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback")
    assert playback["edge"]["name"] == "fra-1"
    async with (
        quick_steering(lab) as (content, write),
        visiting(browser) as hls,
        visiting(browser) as dash,
        visiting(browser) as ours,
    ):
        await until_told(playback["hls"], lambda manifest: manifest["TTL"] == 1)
        visits = {"hls": hls, "dash": dash}
        for name, visit in visits.items():
            await visit.page.goto(site)
            await visit.page.add_script_tag(path=libraries[name])
            await visit.look(WATCH)
            await visit.page.evaluate(PLAYERS[name][1], playback[name])
        await open_watch_page(ours, lab, video_id)
        for visit in (*visits.values(), ours):
            await visit.until("picture.currentTime > 2")
            assert set(segment_hosts(visit)) == {"127.0.1.1"}
        content["pops"]["fra"]["weight"] = DRAINED
        write()
        await until_told(playback["hls"], lambda manifest: manifest["PATHWAY-PRIORITY"][0] != ".")
        drained_at = {name: len(segment_hosts(visit)) for name, visit in visits.items()}
        await asyncio.gather(
            *(moves(lab, name, visit, drained_at[name]) for name, visit in visits.items()),
            our_page_moves(ours),
        )


async def moves(lab: Lab, name: str, visit: Visit, asked_before: int) -> None:
    await until(lambda: segment_hosts(visit)[-1] == "127.0.2.1")
    await plays_on(name, visit)
    hosts = segment_hosts(visit)
    # What was asked for before the player knew may still come from the old POP.
    assert hosts[asked_before:].count("127.0.1.1") <= 4, f"{name} stayed: {hosts}"
    door = lab.deployment.dns.http
    assert door is not None
    asked = {urlsplit(url).netloc for url in visit.requests if "/steering." in url}
    assert f"{door.listen}" in asked, "from the second one on they ask the door"


async def our_page_moves(visit: Visit) -> None:
    await visit.until("document.querySelector('[data-field=edge]').textContent === 'iad-1'")
    await until(lambda: segment_hosts(visit)[-1] == "127.0.2.1")
    await plays_on("our own page", visit)
    assert "Steered from fra-1 to iad-1" in await visit.page.inner_text("#delivery")


async def plays_on(name: str, visit: Visit) -> None:
    """From where it is now, and without a stall so far."""
    at = await visit.look("picture.currentTime")
    await visit.until(f"picture.currentTime > {at + 4} || picture.error", 40)
    assert await visit.look("picture.error") is None
    assert await visit.look("stalls") == [], f"{name} stalled"


async def open_watch_page(visit: Visit, lab: Lab, video_id: str) -> None:
    """Our own page. Its player would fetch the short clip at once; segments are held back, so that some come later."""

    async def late(route: Route) -> None:
        await asyncio.sleep(SEGMENT_LATE_S)
        await route.continue_()

    await visit.page.route("**/*.m4s", late)
    await visit.page.goto(f"{lab.api}/watch/{video_id}")
    await visit.look(WATCH)
