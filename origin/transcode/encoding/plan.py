"""How a video is cut: frames into GOPs, segments and ranges; the same cuts for every rung. Pure, exact, counted in frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from headwater.settings.origin import Transcode
from origin.transcode.encoding.ladder import VideoRung, in_publishing_order, ladder_for
from origin.transcode.media.copying import PEAK_SHARE, WINDOW_S, Grid, with_copies
from origin.transcode.media.source import ProbeReport

AUDIO_RATE_HZ = 48000
AAC_FRAME = 1024  # samples in an AAC-LC access unit, ISO/IEC 14496-3
FINEST_TIMESCALE = 10_000
WINDOW_GROWTH = 16
OTHERS_LONGER = 2  # ranges of the other rungs, which nobody watches growing
BUFFER_S = 2  # of a cap that an encoder may have saved up
REORDERED_FRAMES = 2  # B-frames in a row, and so the most that decoding may run ahead of showing


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames `first` to `last`, both included, encoded by one task. Its segments are `first_segment` onwards."""

    index: int
    first: int
    last: int
    first_segment: int

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Timing:
    """The grid of one video. `frame_ticks` ticks of `timescale` make exactly one frame."""

    frame_rate: Fraction
    frames: int
    gop_frames: int
    segment_frames: int
    timescale: int
    frame_ticks: int

    @property
    def segments(self) -> int:
        return -(-self.frames // self.segment_frames)

    @property
    def delay_ticks(self) -> int:
        """By how much every sample is late in its fragment; the header's edit list takes it back."""
        return REORDERED_FRAMES * self.frame_ticks

    @property
    def duration(self) -> Fraction:
        return self.frames / self.frame_rate

    def segment_sizes(self, first_frame: int, frames: int) -> list[int]:
        """Frames of each segment of a range that begins at a segment's start."""
        whole, rest = divmod(frames, self.segment_frames)
        assert first_frame % self.segment_frames == 0
        return [self.segment_frames] * whole + ([rest] if rest else [])


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be made. `rungs` are in the order in which they are published; the first of them is made in `ranges`, which grow
    from one segment, all others in `other_ranges`."""

    timing: Timing
    ranges: tuple[FrameRange, ...]
    other_ranges: tuple[FrameRange, ...]
    rungs: tuple[VideoRung, ...]
    audio_kbps: int | None

    @property
    def audio_name(self) -> str:
        return f"{self.audio_kbps}k"


def make_plan(report: ProbeReport, settings: Transcode) -> Plan:
    timing = timing_for(report.duration, report.frame_rate, settings.segment, settings.gop)
    rungs = in_publishing_order(ladder_for(report.width, report.height, settings.ladder), settings.first_height)
    if settings.copy_through:
        rungs = with_copies(rungs, report, Grid(timing.frame_rate, timing.frames, timing.segment_frames, REORDERED_FRAMES))
    return Plan(
        timing=timing,
        ranges=cut_ranges(timing, settings.range_segments, seekable=report.seekable),
        other_ranges=even_ranges(timing, OTHERS_LONGER * settings.range_segments, settings.workers)
        if report.seekable
        else cut_ranges(timing, settings.range_segments, seekable=False),
        rungs=rungs,
        audio_kbps=settings.audio_kbps if report.audio else None,
    )


def timing_for(duration: Fraction, frame_rate: Fraction, segment_s: float, gop_s: float) -> Timing:
    """A GOP is the whole number of frames nearest to `gop_s`; a segment is a whole number of GOPs nearest to `segment_s`."""
    gop_frames = max(1, round(frame_rate * Fraction(gop_s)))
    gops = max(1, round(segment_s / gop_s))
    # Each frame is den ticks of a clock of num Hz; finer when that is coarse, so that players that round lose nothing.
    scale = -(-FINEST_TIMESCALE // frame_rate.numerator)
    return Timing(
        frame_rate=frame_rate,
        frames=max(1, round(duration * frame_rate)),
        gop_frames=gop_frames,
        segment_frames=gop_frames * gops,
        timescale=frame_rate.numerator * scale,
        frame_ticks=frame_rate.denominator * scale,
    )


def ceiling_bps(rung: VideoRung, timing: Timing) -> int:
    """What no segment of a rung is above: a cap holds over a long time, and a segment may take what was saved up besides.

    Of a copy the peak was looked at over WINDOW_S.
    """
    segment_s = timing.segment_frames / timing.frame_rate
    share = PEAK_SHARE * max(Fraction(1), WINDOW_S / segment_s) if rung.copied else 1 + BUFFER_S / segment_s
    return math.ceil(1000 * rung.max_bitrate_kbps * share)


def cut_ranges(timing: Timing, range_segments: int, *, seekable: bool = True) -> tuple[FrameRange, ...]:
    """The first range is one segment, so that something can be played soon; then they grow, so that viewers never catch up.

    With an index to seek by: 1, 1, 2, 4, … up to `range_segments`. Without one each range is decoded from the file's start, so
    they grow fourfold without end: all those beginnings together cost a third of one decode.
    """
    ranges: list[FrameRange] = []
    segment = 0
    while segment < timing.segments:
        count = max(1, min(segment, range_segments)) if seekable else max(1, 3 * segment)
        first = segment * timing.segment_frames
        last = min(first + count * timing.segment_frames, timing.frames) - 1
        ranges.append(FrameRange(len(ranges), first, last, segment))
        segment += count
    return tuple(ranges)


def even_ranges(timing: Timing, most_segments: int, at_once: int) -> tuple[FrameRange, ...]:
    """For rungs that are shown when they are whole: as few ranges as keep `at_once` workers busy, as even as segments allow.

    Each range is decoded from the keyframe before it, on average half a source's distance of keyframes too early.
    """
    count = min(timing.segments, max(at_once, -(-timing.segments // most_segments)))
    starts = [timing.segments * place // count for place in range(count)]
    ranges = []
    for index, (begin, end) in enumerate(zip(starts, [*starts[1:], timing.segments], strict=True)):
        last = min(end * timing.segment_frames, timing.frames) - 1
        ranges.append(FrameRange(index, begin * timing.segment_frames, last, begin))
    return tuple(ranges)


def audio_cuts(timing: Timing, samples: int) -> list[int]:
    """Where audio segments end, in AAC frames: as near to the video's segment ends as whole frames allow.

    `samples` counts those of the whole stream; the last segment takes what is left.
    """
    total = -(-samples // AAC_FRAME)
    segment = Fraction(timing.segment_frames * AUDIO_RATE_HZ, AAC_FRAME) / timing.frame_rate
    cuts: list[int] = []
    for number in range(1, timing.segments):
        cut = round(segment * number)
        if cut >= total:
            break
        cuts.append(cut)
    return [*cuts, total]


def sound_segments(timing: Timing) -> int:
    return len(audio_cuts(timing, round(timing.duration * AUDIO_RATE_HZ)))


@dataclass(frozen=True, slots=True)
class SoundWindow:
    """Segments `first` to `until`, the latter not included, of the one encoding of the sound that begins at time 0."""

    first: int
    until: int


def sound_windows(segments: int) -> tuple[SoundWindow, ...]:
    """What of the sound is published at once: its first segment, the first 16, the first 256, …, all.

    Sound is encoded in one go from its start, since a range of AAC begins with a gap. So each window is encoded from time 0 and
    gives what is new in it; the encoder does the same with the same beginning. All beginnings together cost a fifteenth of the
    whole, and each is there before the one before it was heard: encoding is far more than 16 times as fast as playing.
    """
    windows: list[SoundWindow] = []
    until = 0
    while until < segments:
        first, until = until, min(segments, max(1, WINDOW_GROWTH * until))
        windows.append(SoundWindow(first, until))
    return tuple(windows)
