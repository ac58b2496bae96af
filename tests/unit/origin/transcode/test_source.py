"""The judgement on what a probe found."""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import pytest

from origin.transcode.failure import CURES, FailureKind, TaskFailed
from origin.transcode.media.source import AudioFacts, Bounds, Facts, VideoFacts, facts_from_json, frame_rate, judge

BOUNDS = Bounds(max_pixels=8192 * 4352, max_duration_s=3600)


def video(rate: float = 25.0, seconds: float = 10.0, **changed: Any) -> VideoFacts:
    step = 1 / rate
    made = VideoFacts(
        index=0, codec="h264", width=1280, height=720, pixel_format="yuv420p", rotation=0, sample_aspect=Fraction(1),
        stated_rate=Fraction(rate).limit_denominator(1001), transfer="", first=0.0, last=seconds - step, end=seconds,
        pictures=round(seconds * rate), step_10=step, step_50=step, step_90=step,
    )  # fmt: skip
    return replace(made, **changed)


def facts(**changed: Any) -> Facts:
    audio = AudioFacts(1, "aac", 2, 48000, "eng", default=True, end=10.0)
    made = Facts("mov", 0.0, 10.0, 10.0, damaged_packets=0, streams=2, video=video(), audio=(audio,))
    return replace(made, **changed)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (facts(video=None), FailureKind.NO_VIDEO_STREAM),
        (facts(video=None, audio=()), FailureKind.NO_VIDEO_STREAM),
        (facts(video=video(codec="tgq")), FailureKind.UNSUPPORTED_CODEC),
        (facts(video=video(width=30000, height=2)), FailureKind.DIMENSIONS),
        (facts(video=video(width=16000, height=16000)), FailureKind.DIMENSIONS),
        (facts(video=video(width=8, height=8)), FailureKind.DIMENSIONS),
        (facts(data_end=6.0), FailureKind.TRUNCATED),
        (facts(damaged_packets=1), FailureKind.TRUNCATED),
        (facts(video=video(pictures=0)), FailureKind.TRUNCATED),
        (facts(stated_duration=7200.0, data_end=7200.0, video=video(seconds=7200)), FailureKind.TOO_LONG),
    ],
)
def test_what_is_wrong_with_a_file_has_a_name(found: Facts, kind: FailureKind) -> None:
    with pytest.raises(TaskFailed) as refused:
        judge(found, BOUNDS)
    assert refused.value.kind == kind
    assert not refused.value.worth_retrying
    assert refused.value.sentence.endswith(CURES[kind])


def test_every_kind_of_failure_says_what_to_do() -> None:
    assert set(CURES) == set(FailureKind)


def test_formats_whose_duration_is_a_guess_are_not_called_truncated() -> None:
    assert judge(facts(demuxer="mpegts", stated_duration=99.0), BOUNDS).duration == 10


@pytest.mark.parametrize(
    ("found", "rate", "variable"),
    [
        (video(25.0), Fraction(25), False),
        (video(12.5), Fraction(25, 2), False),
        (video(120.0), Fraction(60), False),
        (video(119.88), Fraction(60000, 1001), False),
        (video(2.0, seconds=20), Fraction(8), False),
        (video(24000 / 1001, stated_rate=Fraction(24000, 1001)), Fraction(24000, 1001), False),
        # Matroska's clock has milliseconds: 41 and 42 for 24 pictures a second
        (video(24.0, step_10=0.041, step_50=0.042, step_90=0.042), Fraction(24), False),
        (video(25.0, step_10=1 / 60, step_50=4 / 60, step_90=7 / 60), Fraction(60), True),
        (video(25.0, step_10=1 / 30, step_50=1 / 30, step_90=0.5), Fraction(30), True),
        (video(25.0, pictures=1, stated_rate=None), Fraction(25), False),
    ],
)
def test_the_constant_rate_that_is_made(found: VideoFacts, rate: Fraction, variable: bool) -> None:
    assert frame_rate(found) == (rate, variable)


def test_size_is_that_of_square_pixels_shown_upright() -> None:
    turned = judge(facts(video=video(width=720, height=576, sample_aspect=Fraction(16, 15), rotation=90)), BOUNDS)
    assert (turned.width, turned.height) == (576, 768)


def test_sound_that_goes_on_after_the_picture_is_not_cut() -> None:
    long_sound = AudioFacts(1, "aac", 2, 48000, "", default=True, end=12.0)
    assert judge(facts(audio=(long_sound,), stated_duration=12.0, data_end=12.0), BOUNDS).duration == 12


def test_the_first_picture_lies_on_the_grid() -> None:
    late = video(24.0, first=0.0209, last=9.9792, end=10.0209)
    report = judge(facts(video=late, stated_duration=10.03, data_end=10.03), BOUNDS)
    steps = (Fraction("0.0209") - report.zero) * report.frame_rate
    assert steps.denominator == 1
    assert abs(report.zero) <= Fraction(1, 48)


def test_the_default_audio_stream_is_taken_before_the_first() -> None:
    streams = tuple(AudioFacts(index, "aac", 2, 48000, "", default=index == 2, end=10.0) for index in (1, 2))
    chosen = judge(facts(audio=streams), BOUNDS).audio
    assert chosen is not None
    assert chosen.index == 2


@pytest.mark.parametrize(
    ("said", "kept"),
    [("eng", "eng"), ("pt-BR", "pt-BR"), ("", ""), ('en",URI="https://evil.test/', ""), ("en\n#EXT-X-ENDLIST", ""), ("e n", "")],
)
def test_a_language_is_a_tag_or_nothing(said: str, kept: str) -> None:
    """Matroska keeps any text, and manifests say it again."""
    data = asdict(facts(video=None))
    data["audio"][0]["language"] = said
    assert [stream.language for stream in facts_from_json(data).audio] == [kept]
