"""How a video is cut: frames into GOPs, segments and ranges; the same cuts for every rung. Pure, exact, counted in frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from headwater.settings.origin import Transcode
from origin.transcode.ladder import VideoRung, in_publishing_order, ladder_for
from origin.transcode.source import ProbeReport

AUDIO_RATE_HZ = 48000
AAC_FRAME = 1024  # samples in an AAC-LC access unit, ISO/IEC 14496-3
FINEST_TIMESCALE = 10_000
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
    """What will be made. `rungs` are in the order in which they are published."""

    timing: Timing
    ranges: tuple[FrameRange, ...]
    rungs: tuple[VideoRung, ...]
    audio_kbps: int | None

    @property
    def audio_name(self) -> str:
        return f"{self.audio_kbps}k"


def make_plan(report: ProbeReport, settings: Transcode) -> Plan:
    timing = timing_for(report.duration, report.frame_rate, settings.segment, settings.gop)
    # A format without an index to seek by is decoded from its start in one go.
    range_segments = settings.range_segments if report.seekable else timing.segments
    return Plan(
        timing=timing,
        ranges=cut_ranges(timing, range_segments, first_alone=report.seekable),
        rungs=in_publishing_order(ladder_for(report.width, report.height, settings.ladder), settings.first_height),
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


def cut_ranges(timing: Timing, range_segments: int, *, first_alone: bool = True) -> tuple[FrameRange, ...]:
    """The first range is one segment, so that something can be played soon; the others are `range_segments` each."""
    ranges: list[FrameRange] = []
    segment = 0
    while segment < timing.segments:
        count = 1 if first_alone and segment == 0 else range_segments
        first = segment * timing.segment_frames
        last = min(first + count * timing.segment_frames, timing.frames) - 1
        ranges.append(FrameRange(len(ranges), first, last, segment))
        segment += count
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
