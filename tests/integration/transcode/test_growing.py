"""A video plays as soon as its first window is published, and grows while it is watched."""

from __future__ import annotations

import asyncio
from pathlib import Path

import m3u8
from mpegdash.parser import MPEGDASHParser

from headwater.rules.names import VideoId
from headwater.settings.deployment import Deployment
from origin.objects.interface import ObjectNotFound
from tests.support.barriers import Barrier, barrier
from tests.support.media import decode, make_clip
from tests.support.transcoding import Studio, quick, studio, transcoder

FILM, CLIP = "AAAAAAAAAAA", "AAAAAAAAAAE"
RANGES = "*-ss*libx264*"  # encodes of all but a video's first range


async def until_ready(at: Studio, video_id: VideoId) -> None:
    async with asyncio.timeout(60):
        while (await at.video(video_id)).state != "ready":  # noqa: ASYNC110  # the catalogue is what viewers ask
            await asyncio.sleep(0.02)


async def until_held(at: Barrier, calls: int) -> None:
    async with asyncio.timeout(60):
        while at.waiting < calls:  # noqa: ASYNC110  # another process comes to the barrier
            await asyncio.sleep(0.02)


async def test_a_video_plays_before_more_than_its_first_window_is_made(deployment: Deployment, tmp_path: Path) -> None:
    """Publish the first rung at once: PeerTube #5383, #4013, #656, #5436."""
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=22)
    held = barrier(tmp_path, holding=RANGES)
    async with studio(quick(deployment, ffmpeg=held.program)) as at, transcoder(at.deployment):
        video_id = await at.upload(FILM, clip)
        await until_ready(at, video_id)
        await until_held(held, 2)
        begun = await at.export(video_id, tmp_path / "begun")
        rows = await at.renditions(video_id)
        held.open()
        assert (await at.job_ended(video_id)).state == "done"
        out = await at.export(video_id, tmp_path / "out")
    assert rows["h264/240p"].state == "encoding"
    growing = m3u8.load(str(begun / "h264" / "240p" / "playlist.m3u8"))
    assert (growing.playlist_type, growing.is_endlist, growing.target_duration, len(growing.segments)) == ("event", False, 4, 1)
    assert growing.start.time_offset == 0
    manifest = MPEGDASHParser.parse(str(begun / "manifest.mpd"))
    assert (manifest.type, manifest.media_presentation_duration) == ("dynamic", "PT22.000000S")
    whole = m3u8.load(str(out / "h264" / "240p" / "playlist.m3u8"))
    assert (whole.playlist_type, whole.is_endlist, whole.target_duration, len(whole.segments)) == ("vod", True, 4, 6)
    assert MPEGDASHParser.parse(str(out / "manifest.mpd")).type == "static"
    for segment in [*begun.rglob("*.m4s"), *begun.rglob("init.mp4")]:
        assert segment.read_bytes() == (out / segment.relative_to(begun)).read_bytes(), "what was shown never changes"
    decoded = decode(out / "master.m3u8")
    assert decoded.clean, decoded.complaints
    assert [len(times) for times in decoded.video] == [550, 550]


async def test_a_clip_is_playable_while_a_film_holds_every_ordinary_place(deployment: Deployment, tmp_path: Path) -> None:
    """One long video never blocks the short ones: PeerTube #5691, #4896, #6006, #3659."""
    film = await asyncio.to_thread(make_clip, tmp_path / "film.mp4", seconds=12)
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=3)
    held = barrier(tmp_path, holding=RANGES)
    async with studio(quick(deployment, ffmpeg=held.program, workers=1)) as at, transcoder(at.deployment):
        film_id = await at.upload(FILM, film)
        await until_held(held, 1)
        clip_id = await at.upload(CLIP, clip)
        await until_ready(at, clip_id)
        assert held.waiting == 1, "no more is handed to the cluster than it runs"
        assert not held.opened.exists()
        held.open()
        assert (await at.job_ended(clip_id)).state == "done"
        assert (await at.job_ended(film_id)).state == "done"


async def test_every_waiting_video_gets_its_first_window_before_the_second_of_any(deployment: Deployment, tmp_path: Path) -> None:
    """More films than a coordinator has places for, and none is made further than to its first window."""
    film = await asyncio.to_thread(make_clip, tmp_path / "film.mp4", seconds=9, width=320, height=240)
    held = barrier(tmp_path, holding=RANGES)
    names = [f"AAAAAAAAA{letter}A" for letter in "ABCDE"]
    async with studio(quick(deployment, ffmpeg=held.program, workers=1)) as at, transcoder(at.deployment):
        ids = [await at.upload(name, film) for name in names]
        for video_id in ids:
            await until_ready(at, video_id)
        await until_held(held, 1)
        assert held.waiting == 1, "no more is handed to the cluster than it runs"
        held.open()
        for video_id in ids:
            assert (await at.job_ended(video_id)).state == "done"


async def test_a_restart_shows_nothing_less_than_viewers_saw(deployment: Deployment, tmp_path: Path) -> None:
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=14)
    held = barrier(tmp_path, holding="*-ss*-frames:v?150*")  # the third range
    settings = quick(deployment, ffmpeg=held.program)
    async with studio(settings) as at:
        video_id = await at.upload(FILM, clip)
        async with transcoder(settings):
            await until_held(held, 1)
            await until_listed(at, video_id, 2)
        shown = await at.export(video_id, tmp_path / "shown")
        again = barrier(tmp_path / "shown", holding=RANGES)
        async with transcoder(quick(deployment, ffmpeg=again.program)):
            await until_held(again, 1)
            assert await listed(at, video_id) == 2, "the first window alone is not shown again"
            again.open()
            assert (await at.job_ended(video_id)).state == "done"
        out = await at.export(video_id, tmp_path / "out")
    for segment in shown.rglob("*.m4s"):
        assert segment.read_bytes() == (out / segment.relative_to(shown)).read_bytes()
    decoded = decode(out / "master.m3u8")
    assert decoded.clean, decoded.complaints
    assert [len(times) for times in decoded.video] == [350, 350]


async def listed(at: Studio, video_id: VideoId) -> int:
    """Segments that viewers are shown of the first rung; 0 before there is a playlist."""
    key = f"videos/{video_id}/h264/240p/playlist.m3u8"
    try:
        text = b"".join([chunk async for chunk in at.published.read(key)]).decode()
    except ObjectNotFound:
        return 0
    return text.count("#EXTINF:")


async def until_listed(at: Studio, video_id: VideoId, segments: int) -> None:
    async with asyncio.timeout(60):
        while await listed(at, video_id) < segments:  # noqa: ASYNC110  # as players do
            await asyncio.sleep(0.02)
