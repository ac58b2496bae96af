"""A video is watched while it is made: from its beginning, past what was there when the page came, to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.barriers import barrier
from tests.support.browser import DESKTOP, visiting
from tests.support.lab import JsonObject, running_lab
from tests.support.media import make_clip

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]


async def test_a_video_plays_from_its_start_while_it_grows_and_ends_at_its_end(browser: Browser, tmp_path: Path) -> None:
    clip = await asyncio.to_thread(make_clip, tmp_path / "Growing.mp4", seconds=18, width=426, height=240)
    held = barrier(tmp_path, holding="*-ss*libx264*")  # all ranges but the first, of four seconds

    def held_back(content: JsonObject) -> None:
        ladder = [{"height": 144, "max_bitrate_kbps": 200}, {"height": 240, "max_bitrate_kbps": 400}]
        content["pops"] = {"fra": content["pops"]["fra"]}
        content["shields"] = {"shield-1": content["shields"]["shield-1"]}
        content["origin"]["transcode"] |= {"ladder": ladder, "preset": "ultrafast", "first_height": 240, "ffmpeg": held.program}

    (tmp_path / "lab").mkdir()
    async with running_lab(tmp_path / "lab", changes=held_back) as lab, visiting(browser, **DESKTOP) as visit:
        video_id = await lab.upload(clip)
        await lab.video_when(video_id, lambda video: video["status"] == "ready")
        await visit.page.goto(f"{lab.api}/watch/{video_id}")
        await visit.until("picture.currentTime > 0.2")
        assert await visit.look("picture.currentTime < 3.5"), "from the start, not near the edge of what is there"
        assert await visit.look("document.querySelector('.time').textContent.endsWith('/ 0:18')"), "the whole length is told"
        await visit.until("picture.currentTime > 3.5")
        await visit.until("!document.getElementById('waits').hidden")
        assert (await visit.text("#waits")).startswith("Now: encode/240p/1")
        assert not await visit.look("picture.ended || picture.error")
        await visit.picture("growing")
        held.open()
        await visit.until("picture.currentTime > 4.5")
        await visit.until("picture.duration > 17.9", timeout_s=60)
        await visit.look("picture.playbackRate = 4")
        await visit.until("picture.ended", timeout_s=60)
        assert await visit.look("Math.abs(picture.currentTime - 18) < 0.2")
        whole = await lab.whole_video(video_id)
        await visit.until("document.getElementById('waits').hidden")
        assert {one["rung"] for one in whole["renditions"] if one["kind"] == "video"} == {"144p", "240p"}
        assert visit.wrong == []
