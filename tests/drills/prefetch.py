"""Players in Chromium before edges of two workers that fetch ahead; prints how much of what they fetched was then used.

    python -m tests.drills prefetch [--write]     (--write puts the table into docs/operations.md)

hls.js and dash.js with CMCD switched on, as an operator's page would, and our own watch page without; each plays the whole of a
video through an edge of its own that has nothing of it. Fails when a player with CMCD never names its next object, when nothing
was fetched ahead, or when less than LEAST_USED of it was used.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from playwright.async_api import Browser

from bench.placing import placed
from headwater.rules.addresses import Address
from headwater.rules.prefetching import next_named
from headwater.runtime.httpsite import serve_app
from headwater.settings.deployment import nodes_of
from headwater.settings.load import load_deployment
from tests.support.browser import running_browser, visiting
from tests.support.clients import client_library
from tests.support.deployments import LAB, ROOT, free_port
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.media import make_clip

LEAST_USED = 0.8
LEAST_AHEAD_BYTES = 100_000  # a player that asks at once for all that it names leaves an edge little to fetch ahead
WORKERS = 2
CLIP_S = 24.0
PAGE = """<!doctype html><meta charset="utf-8"><title>A player</title><link rel="icon" href="data:,">
<video id="picture" muted playsinline width="320"></video>"""
# Short buffers: a viewer who leaves has little in hand that nobody will see, and the edge has something to be ahead of.
PLAY_HLS = """(url) => {
  const hls = new Hls({ maxBufferLength: 5, maxMaxBufferLength: 5, enableWorker: false, cmcd: { useHeaders: false } });
  hls.loadSource(url);
  hls.attachMedia(picture);
  picture.play();
}"""
PLAY_DASH = """(url) => {
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({ debug: { logLevel: 0 }, streaming: { cmcd: { enabled: true, mode: "query" }, buffer: {
    bufferTimeDefault: 5, bufferTimeAtTopQuality: 5, bufferTimeAtTopQualityLongForm: 5, initialBufferLevel: NaN } } });
  player.initialize(picture, url, true);
}"""
PLAYERS = {
    "hls.js, CMCD": ("hls.js/dist/hls.min.js", PLAY_HLS, "hls"),
    "dash.js, CMCD": ("dashjs/dist/modern/umd/dash.all.min.js", PLAY_DASH, "dash"),
    "the watch page": None,
}


@dataclass(frozen=True, slots=True)
class Played:
    player: str
    segments: int
    named: int
    ahead_bytes: float
    used_bytes: float

    @property
    def used(self) -> float:
        return self.used_bytes / self.ahead_bytes if self.ahead_bytes else 0.0

    def row(self) -> str:
        return f"| {self.player} | {self.segments} | {self.named} | {self.ahead_bytes / 1e3:.0f} kB | {self.used:.0%} |"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="prefetch")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        plays = asyncio.run(_drill(Path(folder)))
    told = "\n".join(_table(plays))
    print(told)
    if chosen.write:
        placed(ROOT / "docs" / "operations.md", "prefetch", f"{told}\n")
    silent = [one for one in plays if PLAYERS[one.player] is not None and not one.named]
    ahead = [one for one in plays if one.ahead_bytes >= LEAST_AHEAD_BYTES]
    return 1 if silent or not ahead or any(one.used < LEAST_USED for one in ahead) else 0


def _table(plays: Sequence[Played]) -> list[str]:
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, `make drills DRILL=prefetch`: {CLIP_S:.0f} s of play in Chromium, edges of {WORKERS} "
        f"workers, `ahead: 2`, nothing cached before; load average {os.getloadavg()[0]:.0f}:",
        "",
        "| player | media requests | of them naming the next (`nor`) | fetched ahead | used |",
        "|---|---|---|---|---|",
        *(one.row() for one in plays),
    ]


async def _drill(folder: Path) -> list[Played]:
    def change(content: JsonObject) -> None:
        for pop in content["pops"].values():
            for edge in pop["edges"].values():
                edge["workers"] = WORKERS
                edge["cache"] = {"prefetch": {"ahead": 2, "bandwidth": "200 Mbit/s"}}

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    site = Address("127.0.0.1", free_port())
    nodes = list(nodes_of(load_deployment(LAB)))
    async with running_lab(folder, nodes, change) as lab, serve_app(app, site, drain_s=0.1), running_browser() as browser:
        video_id = await lab.upload(make_clip(folder / "clip.mp4", seconds=CLIP_S, width=320, height=180))
        await lab.whole_video(video_id)
        regions = {edge: lab.deployment.pops[pop].region for edge, pop, _ in lab.deployment.edges()}
        return [
            await _played(lab, browser, site.url, player, video_id, edge, region)
            for player, (edge, region) in zip(PLAYERS, regions.items(), strict=True)
        ]


async def _played(lab: Lab, browser: Browser, site: str, player: str, video_id: str, edge: str, region: str) -> Played:
    how = PLAYERS[player]
    async with visiting(browser) as visit:
        if how is None:
            await visit.page.goto(f"{lab.api}/watch/{video_id}?region={region}")
        else:
            library, script, manifest = how
            playback = await lab.ask(f"/api/v1/videos/{video_id}/playback", params={"region": region})
            await visit.page.goto(site)
            await visit.page.add_script_tag(path=client_library(library))
            await visit.page.evaluate(script, playback[manifest])
        await visit.until(f"picture.currentTime > {CLIP_S - 1} || picture.error", CLIP_S + 60)
        media = [urlsplit(url) for url in visit.requests if urlsplit(url).path.endswith(".m4s")]
    await asyncio.sleep(1.0)  # what was used last is counted when its answer has ended
    ahead, used = await _ahead(lab, edge)
    return Played(player, len(media), sum(next_named(url.query, ()) is not None for url in media), ahead, used)


async def _ahead(lab: Lab, edge: str) -> tuple[float, float]:
    """Bytes fetched ahead, and those used of them."""
    names = ("headwater_ahead_bytes_total", "headwater_ahead_used_bytes_total")
    ahead, used = await asyncio.gather(*(lab.metric(edge, name, why="prefetch") for name in names))
    return ahead, used
