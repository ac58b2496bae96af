"""Cuts in frames: laws over all rates and lengths, and the cases that were measured."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.transcode.encoding.plan import (
    AAC_FRAME,
    AUDIO_RATE_HZ,
    FrameRange,
    Timing,
    audio_cuts,
    cut_ranges,
    even_ranges,
    timing_for,
)
from origin.transcode.media.source import STANDARD_RATES

rates = st.one_of(st.sampled_from(STANDARD_RATES), st.fractions(5, 60, max_denominator=1001))
timings = st.builds(
    timing_for,
    duration=st.fractions(Fraction(1, 100), 3600, max_denominator=1000),
    frame_rate=rates,
    segment_s=st.sampled_from([2.0, 4.0, 6.0]),
    gop_s=st.sampled_from([1.0, 2.0]),
)


def cut_evenly(timing: Timing, size: int) -> tuple[FrameRange, ...]:
    return even_ranges(timing, size, 3)


@given(timings, st.integers(1, 64), st.sampled_from([cut_ranges, partial(cut_ranges, seekable=False), cut_evenly]))
def test_ranges_cover_every_frame_exactly_once_and_begin_at_segments(
    timing: Timing, size: int, cut: Callable[[Timing, int], tuple[FrameRange, ...]]
) -> None:
    ranges = cut(timing, size)
    assert ranges[0].first == 0
    assert ranges[-1].last == timing.frames - 1
    assert all(before.last + 1 == after.first for before, after in pairwise(ranges))
    assert all(part.first == part.first_segment * timing.segment_frames for part in ranges)
    sizes = [frames for part in ranges for frames in timing.segment_sizes(part.first, part.frames)]
    assert len(sizes) == timing.segments
    assert set(sizes[:-1]) <= {timing.segment_frames}
    assert sum(sizes) == timing.frames


@given(timings, st.integers(1, 64), st.integers(1, 8))
def test_even_ranges_keep_all_workers_busy_and_differ_by_a_segment_at_most(timing: Timing, most: int, at_once: int) -> None:
    ranges = even_ranges(timing, most, at_once)
    segments = [len(timing.segment_sizes(part.first, part.frames)) for part in ranges]
    assert max(segments) <= most
    assert max(segments) - min(segments) <= 1
    assert len(ranges) >= min(at_once, timing.segments)


@given(timings)
def test_a_frame_is_a_whole_number_of_ticks_and_a_segment_of_gops(timing: Timing) -> None:
    assert Fraction(timing.frame_ticks, timing.timescale) == 1 / timing.frame_rate
    assert 10_000 <= timing.timescale < 2**32
    assert timing.segment_frames % timing.gop_frames == 0


@given(st.fractions(Fraction(1, 100), 36000, max_denominator=1000), rates)
def test_the_video_lasts_as_long_as_its_source_within_half_a_frame(duration: Fraction, rate: Fraction) -> None:
    timing = timing_for(duration, rate, 4.0, 2.0)
    if timing.frames > 1:
        assert abs(timing.duration - duration) <= 1 / rate / 2


@given(timings)
def test_audio_segments_end_within_half_an_aac_frame_of_the_videos(timing: Timing) -> None:
    samples = round(timing.duration * AUDIO_RATE_HZ)
    cuts = audio_cuts(timing, samples)
    assert cuts == sorted(set(cuts))
    assert cuts[-1] == -(-samples // AAC_FRAME)
    for number, cut in enumerate(cuts[:-1], 1):
        video_end = number * timing.segment_frames / timing.frame_rate
        assert abs(Fraction(cut * AAC_FRAME, AUDIO_RATE_HZ) - video_end) <= Fraction(AAC_FRAME, 2 * AUDIO_RATE_HZ)


@pytest.mark.parametrize(
    ("rate", "gop", "segment", "timescale", "ticks"),
    [
        (Fraction(30000, 1001), 60, 120, 30000, 1001),
        (Fraction(24000, 1001), 48, 96, 24000, 1001),
        (Fraction(25, 2), 25, 50, 10000, 800),
        (Fraction(25), 50, 100, 10000, 400),
        (Fraction(60), 120, 240, 10020, 167),
    ],
)
def test_gops_and_clocks_of_usual_rates(rate: Fraction, gop: int, segment: int, timescale: int, ticks: int) -> None:
    timing = timing_for(Fraction(12), rate, 4.0, 2.0)
    assert (timing.gop_frames, timing.segment_frames, timing.timescale, timing.frame_ticks) == (gop, segment, timescale, ticks)
