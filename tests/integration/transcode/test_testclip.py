"""The clip that the demo and these tests are made with."""

from __future__ import annotations

from pathlib import Path

from tests.support.media import decode, make_clip


def test_the_clip_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = (make_clip(tmp_path / name, seconds=1) for name in ("first.mp4", "second.mp4"))
    assert first.read_bytes() == second.read_bytes()


def test_the_clip_has_the_length_rate_and_sound_it_was_asked_for(tmp_path: Path) -> None:
    decoded = decode(make_clip(tmp_path / "clip.mp4", seconds=2, rate="30"))
    assert decoded.clean, decoded.complaints
    assert [len(times) for times in decoded.video] == [60]
    assert decoded.audio_samples == 96000
