"""Whole videos through a real transcoder: catalogue, stores, task cluster and ffmpeg as in production."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from headwater.settings.origin import Rung
from tests.support.media import decode, make_clip
from tests.support.transcoding import quick, studio, transcoder

VIDEO = "AAAAAAAAAAA"


async def test_an_upload_becomes_ready_with_every_rung_and_still(deployment: Deployment, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=10)
    ladder = [Rung(height=height, max_bitrate_kbps=400) for height in (144, 180, 240, 360)]
    async with studio(quick(deployment, ladder=ladder)) as at, transcoder(at.deployment):
        video_id = await at.upload(VIDEO, clip)
        job = await at.job_ended(video_id)
        video = await at.video(video_id)
        rows = await at.renditions(video_id)
        out = await at.export(video_id, tmp_path / "out")
    assert (job.state, job.error) == ("done", None)
    assert (video.state, video.width, video.height, video.frame_rate) == ("ready", 640, 360, "25/1")
    assert video.duration_s == 10
    assert (video.has_poster, video.has_storyboard) == (1, 1)
    assert {name: (row.state, row.progress) for name, row in rows.items()} == {
        **{f"h264/{name}": ("ready", 1.0) for name in ("144p", "180p", "240p", "360p")},
        "aac/128k": ("ready", 1.0),
    }
    for manifest in ("master.m3u8", "manifest.mpd"):
        decoded = decode(out / manifest)
        assert decoded.clean, decoded.complaints
        assert [len(times) for times in decoded.video] == [250] * 4
        assert [times[0] for times in decoded.video] == [0] * 4
        assert decoded.audio_samples / 48000 == pytest.approx(10, abs=1024 / 48000)
