"""What is not published: each finding of the check before publishing, by its name."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import AAC_FRAME, audio_cuts, timing_for
from origin.transcode.failure import OF_THE_CHECK, FailureKind, TaskFailed
from origin.transcode.media.avc import Configuration, Sequence
from origin.transcode.media.initsegment import Header
from origin.transcode.media.isobmff import SegmentFacts
from origin.transcode.publishing.rendition import measure
from origin.transcode.publishing.verify import check_opening, check_sound, check_video

TIMING = timing_for(Fraction(10), Fraction(25), 4.0, 2.0)
RUNG = VideoRung("360p", 640, 360, 900, 23)
SEQUENCE = Sequence(100, 30, 1, 8, 640, 360, progressive=True)
PICTURE = Header(
    "avc1.64001e", TIMING.timescale, TIMING.delay_ticks, (640, 360), avc=Configuration("avc1.64001e", 4, (SEQUENCE,))
)
SOUND = Header("mp4a.40.2", 48000, 0, sound=(2, 48000))
IDR = b"\0\0\0\x02\x65\0"


def picture_segments() -> list[SegmentFacts]:
    ticks = TIMING.frame_ticks
    sizes = TIMING.segment_sizes(0, TIMING.frames)
    return [
        SegmentFacts(place * 100 * ticks, frames * ticks, frames, ticks, tuple(range(0, frames, 50)), TIMING.delay_ticks, 900)
        for place, frames in enumerate(sizes)
    ]


def sound_segments() -> list[SegmentFacts]:
    cuts = [0, *audio_cuts(TIMING, 480_000)]
    return [
        SegmentFacts(start * AAC_FRAME, (end - start) * AAC_FRAME, end - start, AAC_FRAME, (0,), 0, 300)
        for start, end in pairwise(cuts)
    ]


def with_one(segments: list[SegmentFacts], place: int, **changed: Any) -> list[SegmentFacts]:
    return [replace(facts, **changed) if number == place else facts for number, facts in enumerate(segments)]


def refused(header: Header, segments: list[SegmentFacts]) -> FailureKind:
    check = partial(check_video, rung=RUNG) if header.picture else check_sound
    with pytest.raises(TaskFailed) as failed:
        check(header, segments, timing=TIMING)
    assert failed.value.kind in OF_THE_CHECK
    return failed.value.kind


def test_what_is_as_planned_passes() -> None:
    check_video(PICTURE, picture_segments(), RUNG, TIMING)
    check_video(PICTURE, picture_segments()[:1], RUNG, TIMING)
    check_sound(SOUND, sound_segments(), TIMING)
    check_sound(SOUND, sound_segments()[:2], TIMING)
    check_opening("segment_00000.m4s", picture_segments()[0], IDR, PICTURE)


@pytest.mark.parametrize(
    ("place", "changed", "kind"),
    [
        (1, {"syncs": (0,)}, FailureKind.NO_KEYFRAME),
        (1, {"syncs": (0, 51)}, FailureKind.NO_KEYFRAME),
        (0, {"samples": 99}, FailureKind.UNEVEN_SEGMENTS),
        (2, {"samples": 51}, FailureKind.UNEVEN_SEGMENTS),
        (1, {"sample_ticks": None}, FailureKind.MISDESCRIBED),
        (1, {"sample_ticks": TIMING.frame_ticks + 1}, FailureKind.MISDESCRIBED),
        (2, {"first_offset": 0}, FailureKind.OUT_OF_SYNC),
        (2, {"shown_evenly": False}, FailureKind.OUT_OF_SYNC),
    ],
)
def test_a_picture_that_is_not_as_planned_is_refused(place: int, changed: dict[str, Any], kind: FailureKind) -> None:
    assert refused(PICTURE, with_one(picture_segments(), place, **changed)) == kind


@pytest.mark.parametrize(
    "changed",
    [
        {"timescale": TIMING.timescale + 1},
        {"picture": (640, 362)},
        {"avc": None},
        {"avc": Configuration("avc1.64001e", 4, (replace(SEQUENCE, width=648),))},
        {"avc": Configuration("avc1.64001e", 4, (replace(SEQUENCE, progressive=False),))},
        {"avc": Configuration("avc1.64001e", 4, (replace(SEQUENCE, bit_depth=10),))},
        {"avc": Configuration("avc1.64001e", 4, (SEQUENCE, replace(SEQUENCE, chroma_format=3)))},
    ],
)
def test_a_header_that_announces_something_else_is_refused(changed: dict[str, Any]) -> None:
    assert refused(replace(PICTURE, **changed), picture_segments()) == FailureKind.MISDESCRIBED


def test_a_picture_that_begins_late_is_out_of_sync() -> None:
    assert refused(replace(PICTURE, delay=0), picture_segments()) == FailureKind.OUT_OF_SYNC


@pytest.mark.parametrize(
    ("place", "changed", "kind"),
    [
        (0, {"duration": 186 * AAC_FRAME}, FailureKind.OUT_OF_SYNC),
        (1, {"duration": 189 * AAC_FRAME}, FailureKind.OUT_OF_SYNC),
        (2, {"duration": 91 * AAC_FRAME}, FailureKind.OUT_OF_SYNC),
        (1, {"first_offset": 1024}, FailureKind.OUT_OF_SYNC),
        (1, {"sample_ticks": 960}, FailureKind.MISDESCRIBED),
    ],
)
def test_sound_that_does_not_go_with_the_picture_is_refused(place: int, changed: dict[str, Any], kind: FailureKind) -> None:
    assert refused(SOUND, with_one(sound_segments(), place, **changed)) == kind


def test_sound_in_another_shape_than_announced_is_refused() -> None:
    assert refused(replace(SOUND, sound=(1, 48000)), sound_segments()) == FailureKind.MISDESCRIBED


@pytest.mark.parametrize(
    ("syncs", "sample", "kind"),
    [
        ((1,), IDR, FailureKind.NO_KEYFRAME),
        ((0,), b"\0\0\0\x02\x61\x9a", FailureKind.NO_KEYFRAME),  # a slice that is no IDR, though marked as sync
        ((0,), b"\0\0\0\x09\x65\0", FailureKind.UNREADABLE),
    ],
)
def test_a_segment_that_needs_those_before_it_is_refused(syncs: tuple[int, ...], sample: bytes, kind: FailureKind) -> None:
    with pytest.raises(TaskFailed) as failed:
        check_opening("segment_00001.m4s", replace(picture_segments()[0], syncs=syncs), sample, PICTURE)
    assert failed.value.kind == kind


def test_where_a_file_lies_that_cannot_be_read_back_is_for_the_log_alone(tmp_path: Path) -> None:
    """The detail is what everybody reads of a video that failed."""
    with pytest.raises(TaskFailed) as refused:
        measure([], tmp_path / "init.mp4")
    assert refused.value.kind is FailureKind.UNREADABLE
    assert str(tmp_path) not in refused.value.detail
    assert str(tmp_path) in refused.value.trace
