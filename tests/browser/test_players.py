"""Other people's players, as anybody would embed them, play what the lab publishes and complain of nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser

from headwater.rules.addresses import Address
from headwater.runtime.httpsite import serve_app
from tests.browser.test_content_steering import PAGE, PLAYERS
from tests.support.browser import visiting
from tests.support.clients import client_library
from tests.support.deployments import free_port
from tests.support.lab import Lab
from tests.support.media import make_clip

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]

PLAY_SHAKA = """async (url) => {
  shaka.polyfill.installAll();
  window.player = new shaka.Player();
  player.addEventListener("error", (event) => console.error(`shaka ${event.detail.code} ${event.detail.data}`));
  await player.attach(picture);
  await player.load(url);
  picture.play();
}"""
SHAKA = "shaka-player/dist/shaka-player.compiled.js"
PLAYING = {
    "hls.js": ("hls", *PLAYERS["hls"]),
    "dash.js": ("dash", *PLAYERS["dash"]),
    "shaka, HLS": ("hls", SHAKA, PLAY_SHAKA),
    "shaka, DASH": ("dash", SHAKA, PLAY_SHAKA),
}
NOTHING_WRONG = 2.0  # seconds of play after which a player has fetched its second segment's header, sound and picture


async def test_other_peoples_players_play_every_manifest(browser: Browser, lab: Lab, tmp_path: Path) -> None:
    libraries = {name: client_library(library) for name, (_, library, _) in PLAYING.items()}

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=10, width=320, height=180)
    video_id = await lab.upload(clip)
    await lab.whole_video(video_id)
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback")
    app = web.Application()
    app.router.add_get("/", page)
    address = Address("127.0.0.1", free_port())
    async with serve_app(app, address, drain_s=0.1):
        for name, (manifest, _, play) in PLAYING.items():
            async with visiting(browser) as visit:
                await visit.page.goto(address.url)
                await visit.page.add_script_tag(path=libraries[name])
                await visit.page.evaluate(play, playback[manifest])
                await visit.until(f"picture.currentTime > {NOTHING_WRONG} || picture.error")
                assert await visit.look("picture.error") is None, name
                assert await visit.look("picture.videoHeight") in (144, 180), name
                assert abs(await visit.look("picture.duration") - 10) < 0.1, name
                assert visit.wrong == [], name
