"""A video that became popular gets AV1 rungs by the same graph, under the same manifests, and nobody's playback is touched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest
import pytest_asyncio
from aiohttp import web

from headwater.rules.addresses import Address
from headwater.rules.names import VideoId
from headwater.runtime.httpsite import serve_app
from headwater.settings.origin import Av1
from origin.catalogue.schema import JobState
from origin.catalogue.views import add_views, queue_popular, views_of
from origin.transcode.programs.tools import find_ffmpeg
from tests.browser.test_content_steering import PAGE
from tests.browser.test_players import PLAYERS, SHAKA
from tests.support.browser import running_browser, visiting
from tests.support.clients import client_library
from tests.support.clips import flash_clip
from tests.support.deployments import free_port, lab_deployment
from tests.support.media import decode
from tests.support.transcoding import Studio, quick, studio, transcoder

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("av1")]

VIDEO = "popular0000"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Studio, dict[str, str]]]:
    """The studio once the video has its AV1 rungs, and what was published (key to digest) before it had them."""
    if not (await asyncio.to_thread(find_ffmpeg, "auto")).makes_av1:
        pytest.skip("this ffmpeg has no libsvtav1")
    folder = tmp_path_factory.mktemp("av1")
    clip = await asyncio.to_thread(flash_clip, folder / "clip.mp4", seconds=7)
    deployment = quick(lab_deployment(folder), av1=Av1(after_views=3, within="1 h", preset=12), vmaf_samples=1)
    async with studio(deployment) as seen, transcoder(deployment):
        video_id = await seen.upload(VIDEO, clip)
        assert (await seen.job_ended(video_id)).state == JobState.DONE
        before = {info.key: info.sha256 async for info in seen.published.list(f"videos/{VIDEO}/")}
        now = time.time()
        await add_views(seen.engine, {video_id: 2, VideoId("gone0000000"): 9}, now)
        assert await queue_popular(seen.engine, now - 3600, 3, now) == []
        await add_views(seen.engine, {video_id: 1}, now)
        assert await views_of(seen.engine, video_id, now) == 3
        assert await queue_popular(seen.engine, now - 3600, 3, now) == [video_id]
        assert await queue_popular(seen.engine, now - 3600, 3, now) == []
        ended = await seen.job_ended(video_id)
        assert (ended.state, ended.error) == (JobState.DONE, None)
        yield seen, before


async def test_av1_rungs_are_in_both_manifests_beside_those_of_h264(made: tuple[Studio, dict[str, str]], tmp_path: Path) -> None:
    seen, _ = made
    folder = await seen.export(VideoId(VIDEO), tmp_path)
    master = m3u8.loads((folder / "master.m3u8").read_text())
    said = [(one.uri, one.stream_info.codecs.split(",")[0], one.stream_info.resolution) for one in master.playlists]
    rungs = [f"{codec}/{rung}" for codec in ("h264", "av1") for rung in ("144p", "240p")]
    assert [uri for uri, _, _ in said] == [f"{rung}/playlist.m3u8" for rung in rungs]
    assert [codecs[:10] for _, codecs, _ in said[2:]] == ["av01.0.00M", "av01.0.00M"]
    assert said[0][2] == said[2][2]
    mpd = ElementTree.parse(folder / "manifest.mpd")
    sets = mpd.findall("{*}Period/{*}AdaptationSet")
    codecs = [{one.get("codecs", "")[:4] for one in found.findall("{*}Representation")} for found in sets]
    assert codecs == [{"avc1"}, {"mp4a"}, {"av01"}]
    rows = await seen.renditions(VideoId(VIDEO))
    assert {name: row.state for name, row in rows.items()} == dict.fromkeys(
        ["h264/144p", "h264/240p", "aac/128k", "av1/144p", "av1/240p"], "ready"
    )
    for rung in rungs:  # every picture, without a warning, by a decoder that is not ours
        decoded = await asyncio.to_thread(decode, folder / rung / "playlist.m3u8")
        assert decoded.clean, decoded.complaints
        assert [len(pictures) for pictures in decoded.video] == [168]


async def test_the_quality_of_each_rung_is_measured_where_ffmpeg_can(made: tuple[Studio, dict[str, str]]) -> None:
    seen, _ = made
    if not (await asyncio.to_thread(find_ffmpeg, "auto")).measures_vmaf:
        pytest.skip("this ffmpeg has no libvmaf")
    rows = await seen.renditions(VideoId(VIDEO))
    scores = {name: row.vmaf_mean for name, row in rows.items() if row.kind == "video"}
    assert all(80 < scores[f"{codec}/144p"] < scores[f"{codec}/240p"] <= 100 for codec in ("h264", "av1")), scores
    assert rows["h264/240p"].vmaf_low <= rows["h264/240p"].vmaf_mean
    assert rows["h264/240p"].vmaf_seconds == 2.0
    assert rows["aac/128k"].vmaf_mean is None


async def test_what_viewers_had_is_as_it_was(made: tuple[Studio, dict[str, str]]) -> None:
    seen, before = made
    after = {info.key: info.sha256 async for info in seen.published.list(f"videos/{VIDEO}/")}
    changed = {key.rpartition("/")[2] for key in before if after.get(key) != before[key]}
    assert changed == {"master.m3u8", "manifest.mpd"}
    assert {key.split("/")[2] for key in after.keys() - before.keys()} == {"av1"}


async def test_the_ladder_of_a_video_that_has_av1_is_not_queued_again(made: tuple[Studio, dict[str, str]]) -> None:
    seen, _ = made
    assert await queue_popular(seen.engine, 0.0, 1, time.time()) == []


# Players choose between codecs by rules of their own; here each is asked for AV1, as a page would that prefers it.
PREFER = {
    "hls.js": ("master.m3u8", PLAYERS["hls"][0], """(url) => {
      const hls = new Hls({ enableWorker: false, videoPreference: { videoCodec: "av01" }, maxBufferLength: 3 });
      hls.loadSource(url); hls.attachMedia(picture); picture.play();
    }"""),
    "dash.js": ("manifest.mpd", PLAYERS["dash"][0], """(url) => {
      const player = dashjs.MediaPlayer().create();
      player.updateSettings({ debug: { logLevel: 0 }, streaming: { buffer: { bufferTimeDefault: 3 } } });
      player.setCustomInitialTrackSelectionFunction((tracks) => {
        const preferred = tracks.filter((track) => track.codec?.includes("av01"));
        return preferred.length ? preferred : tracks;
      });
      player.initialize(picture, url, true);
    }"""),
    "shaka": ("master.m3u8", SHAKA, """async (url) => {
      window.player = new shaka.Player();
      player.configure({ preferredVideo: [{ codec: "av01" }], streaming: { bufferingGoal: 3 } });
      await player.attach(picture); await player.load(url); picture.play();
    }"""),
}  # fmt: skip
WITHOUT_AV1 = """
  const supported = MediaSource.isTypeSupported;
  MediaSource.isTypeSupported = (type) => !type.includes("av01") && supported.call(MediaSource, type);
  const decoding = navigator.mediaCapabilities.decodingInfo.bind(navigator.mediaCapabilities);
  navigator.mediaCapabilities.decodingInfo = async (asked) =>
    asked.video?.contentType.includes("av01") ? { supported: false, smooth: false, powerEfficient: false } : decoding(asked);
"""


@pytest.mark.browser
async def test_players_play_av1_and_those_that_cannot_play_h264(made: tuple[Studio, dict[str, str]], tmp_path: Path) -> None:
    seen, _ = made
    libraries = {name: client_library(library) for name, (_, library, _) in PREFER.items()}
    folder = await seen.export(VideoId(VIDEO), tmp_path)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_static("/media", folder)
    address = Address("127.0.0.1", free_port())
    async with serve_app(app, address, drain_s=0.1), running_browser() as browser:
        for name, (manifest, _, play) in PREFER.items():
            for knows_av1 in (True, False):
                async with visiting(browser) as visit:
                    visit.expect("steering|404|CONNECTION_REFUSED")  # nobody steers here
                    if not knows_av1:
                        await visit.page.add_init_script(WITHOUT_AV1)
                    await visit.page.goto(address.url)
                    await visit.page.add_script_tag(path=libraries[name])
                    await visit.page.evaluate(play, f"{address.url}/media/{manifest}")
                    await visit.until("picture.currentTime > 0.5 || picture.error")
                    assert await visit.look("picture.error") is None, name
                    codecs = {url.split("/")[4] for url in visit.requests if url.endswith(".m4s")} - {"aac"}
                    assert "av1" in codecs if knows_av1 else codecs == {"h264"}, name  # shaka fetches one of H.264 first
                    assert visit.wrong == [], name
