"""The check that a rendition passes before anyone sees it: what its boxes say against what was planned. Pure.

That segments follow each other in time is checked where they are read (rendition.measure), that rungs and sound fit together
where they are shown together (rendition.check_renditions). BANDWIDTH and AVERAGE-BANDWIDTH are counted from the files.
Every finding is a TaskFailed of a kind of its own, so that it is counted and told by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from origin.transcode.encoding.ladder import AV1, VideoRung
from origin.transcode.encoding.plan import AAC_FRAME, AUDIO_RATE_HZ, Timing, sound_segments
from origin.transcode.failure import FailureKind, inconsistent
from origin.transcode.media.av1 import begins_with_key_frame
from origin.transcode.media.avc import CHROMA_420, Opening, opening
from origin.transcode.media.initsegment import Header
from origin.transcode.media.isobmff import NotIsoBmff, SegmentFacts

CHANNELS = 2


def check_opening(name: str, facts: SegmentFacts, first_sample: bytes, header: Header) -> None:
    """A segment can be decoded without those before it (EXT-X-INDEPENDENT-SEGMENTS): flags say so, and the picture is an IDR."""
    if not facts.starts_with_sync:
        raise inconsistent(f"{name} does not begin with a keyframe", FailureKind.NO_KEYFRAME)
    try:
        whole = _is_key_picture(first_sample, header)
    except NotIsoBmff as error:
        raise inconsistent(f"the first picture of {name} cannot be read: {error}", FailureKind.UNREADABLE) from error
    if not whole:
        raise inconsistent(
            f"{name} is marked as beginning with a keyframe, but its first picture is none", FailureKind.NO_KEYFRAME
        )


def _is_key_picture(sample: bytes, header: Header) -> bool:
    """An IDR picture of H.264, a shown key frame of AV1; every frame of sound. Raises NotIsoBmff."""
    if header.avc is not None:
        return opening(sample, header.avc.length_bytes) is Opening.IDR
    return header.av1 is None or begins_with_key_frame(sample, header.av1)


def check_video(header: Header, segments: Sequence[SegmentFacts], rung: VideoRung, timing: Timing) -> None:
    """Size, rate and codec are as announced; segments and keyframes are where those of every other rung are; it begins at 0."""
    _check_picture(header, rung)
    if header.timescale != timing.timescale:
        raise inconsistent(f"its clock runs at {header.timescale} Hz instead of {timing.timescale}", FailureKind.MISDESCRIBED)
    for number, facts in enumerate(segments):
        if facts.sample_ticks != timing.frame_ticks:
            told = f"pictures of segment {number} do not all last {timing.frame_ticks} ticks"
            raise inconsistent(told, FailureKind.MISDESCRIBED)
        frames = min(timing.segment_frames, timing.frames - number * timing.segment_frames)
        if facts.samples != frames:
            told = f"segment {number} has {facts.samples} pictures instead of {frames}"
            raise inconsistent(told, FailureKind.UNEVEN_SEGMENTS)
        # A copy has its own keyframes in between; players change rungs at segments.
        if missing := set(range(0, frames, timing.segment_frames if rung.copied else timing.gop_frames)) - set(facts.syncs):
            told = f"picture {min(missing)} of segment {number} is no keyframe, as it is in every rung"
            raise inconsistent(told, FailureKind.NO_KEYFRAME)
        if not facts.shown_evenly:
            raise inconsistent(f"pictures of segment {number} are not shown one after another evenly", FailureKind.OUT_OF_SYNC)
        if facts.first_offset != header.delay:
            late = facts.first_offset - header.delay
            raise inconsistent(f"segment {number} is presented {late} ticks late", FailureKind.OUT_OF_SYNC)


def _check_picture(header: Header, rung: VideoRung) -> None:
    announced = (rung.width, rung.height)
    if header.picture != announced:
        raise inconsistent(f"its header says {header.picture} instead of {announced}", FailureKind.MISDESCRIBED)
    if (header.av1 if rung.codec == AV1 else header.avc) is None:
        raise inconsistent(f"it is {header.codecs} instead of {rung.codec}", FailureKind.MISDESCRIBED)
    for size, plain in _pictures(header):
        if size != announced:
            told = f"its pictures are {size[0]}x{size[1]} instead of {rung.width}x{rung.height}"
            raise inconsistent(told, FailureKind.MISDESCRIBED)
        if not plain:
            raise inconsistent("its pictures are not progressive in 8 bit 4:2:0, as every player wants", FailureKind.MISDESCRIBED)


def _pictures(header: Header) -> list[tuple[tuple[int, int], bool]]:
    """Of each parameter set: its pictures' size, and whether they are progressive in 8 bit 4:2:0."""
    if header.av1 is not None:
        sequence = header.av1.sequence
        return [((sequence.width, sequence.height), sequence.chroma_420 and sequence.bit_depth == 8)]
    found = header.avc.sequences if header.avc is not None else ()
    return [
        ((one.width, one.height), (one.chroma_format, one.bit_depth, one.progressive) == (CHROMA_420, 8, True)) for one in found
    ]


def check_sound(header: Header, segments: Sequence[SegmentFacts], timing: Timing) -> None:
    """Channels and rate are as announced; it begins at 0; each segment ends with the picture's, within half a frame of sound."""
    if header.sound != (CHANNELS, AUDIO_RATE_HZ) or header.timescale != AUDIO_RATE_HZ:
        raise inconsistent(f"its header says {header.sound} instead of {CHANNELS, AUDIO_RATE_HZ}", FailureKind.MISDESCRIBED)
    at = 0
    for number, facts in enumerate(segments):
        if facts.sample_ticks != AAC_FRAME:
            raise inconsistent(f"sound frames of segment {number} do not all last {AAC_FRAME} ticks", FailureKind.MISDESCRIBED)
        if facts.first_offset or header.delay:
            raise inconsistent(f"segment {number} of the sound is presented late", FailureKind.OUT_OF_SYNC)
        at += facts.duration
        last = number >= sound_segments(timing) - 1  # ends with a whole frame; the encoder may count one less
        picture = timing.duration if last else (number + 1) * timing.segment_frames / timing.frame_rate
        apart = abs(Fraction(at, AUDIO_RATE_HZ) - picture)
        if apart > Fraction(AAC_FRAME, AUDIO_RATE_HZ) / (1 if last else 2):
            told = f"segment {number} of the sound ends {float(apart) * 1000:.0f} ms apart from the picture's"
            raise inconsistent(told, FailureKind.OUT_OF_SYNC)
