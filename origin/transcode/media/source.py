"""What a probe found in an uploaded file, and the judgement on it: a report to plan by, or the reason for a refusal. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from origin.transcode.failure import FailureKind, TaskFailed

# Demuxers of files that hold their own media; not those of playlists, concatenations and picture sequences, which name others.
DEMUXERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "mpegts", "mpeg", "ogg", "asf", "mxf", "dv",
)  # fmt: skip
# Their headers state a duration that was counted, not guessed from the bit rate.
DURATION_IS_STATED = frozenset({"mov", "matroska", "webm", "avi", "flv", "asf"})
# Their index leads to a keyframe before any time; the others are decoded from the start.
SEEKABLE = frozenset({"mov", "matroska", "webm", "avi"})
# Decoders that are fuzzed and in wide use; the many others of ffmpeg are a needless surface.
VIDEO_CODECS = frozenset(
    {
        "h264", "hevc", "vvc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video", "prores", "dnxhd", "mjpeg", "theora",
        "wmv1", "wmv2", "wmv3", "vc1", "h263", "flv1", "msmpeg4v2", "msmpeg4v3", "dvvideo", "ffv1", "huffyuv", "ffvhuff",
        "utvideo", "rawvideo", "qtrle", "cfhd", "vp6f", "svq3", "cinepak",
    }
)  # fmt: skip
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*\Z")
SHORTEST_SIDE = 16
LONGEST_SIDE = 16384
SLOWEST, FASTEST = Fraction(5), Fraction(60)
STANDARD_RATES = (
    Fraction(5), Fraction(6), Fraction(15, 2), Fraction(10), Fraction(12), Fraction(25, 2), Fraction(15), Fraction(20),
    Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(48000, 1001), Fraction(48),
    Fraction(50), Fraction(60000, 1001), Fraction(60),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CodingFacts:
    """How an H.264 stream is coded, as far as copying it needs (copying.py).

    `step` is seconds between pictures, None when they differ; every multiple of `key_period` pictures is a keyframe. `closed`: no
    picture is shown beyond a keyframe that it is decoded before. `reordered` is by how many places decoding runs ahead at most.
    `edited`: an edit list leaves pictures out. `read`: from the packets; else from an index, which knows no order of showing.
    """

    profile: int
    level: int
    chroma_format: int
    bit_depth: int
    width: int
    height: int
    progressive: bool
    pictures: int
    step: Fraction | None
    key_period: int | None
    closed: bool
    reordered: int
    mean_bps: int
    peak_bps: int
    edited: bool
    read: bool


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Raw facts of the chosen video stream. Times in seconds on the file's own clock; steps are between pictures."""

    index: int
    codec: str
    width: int
    height: int
    pixel_format: str
    rotation: int
    sample_aspect: Fraction
    stated_rate: Fraction | None
    transfer: str
    first: float
    last: float
    end: float
    pictures: int
    step_10: float
    step_50: float
    step_90: float
    refreshed: bool = False  # its keyframes become whole only over the pictures that follow (periodic intra refresh)
    coding: CodingFacts | None = None


@dataclass(frozen=True, slots=True)
class AudioFacts:
    index: int
    codec: str
    channels: int
    sample_rate: int
    language: str
    default: bool
    end: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Raw facts of a file, as the probe's child hands them over."""

    demuxer: str
    start: float
    stated_duration: float | None
    data_end: float
    damaged_packets: int
    streams: int
    video: VideoFacts | None
    audio: tuple[AudioFacts, ...]


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What the plan is made by. Sizes are after rotation, in square pixels; times are exact.

    `zero` is the file's own time that becomes 0: it puts the first picture on the grid of `frame_rate`. `frame_rate` is
    the constant rate of what will be made; `variable` says that the source has none.
    """

    duration: Fraction
    zero: Fraction
    frame_rate: Fraction
    variable: bool
    width: int
    height: int
    pixel_format: str
    video_codec: str
    video_index: int
    video_end: Fraction
    rotation: int
    transfer: str
    demuxer: str
    seekable: bool
    audio: AudioFacts | None
    audio_streams: int
    coding: CodingFacts | None = field(default=None, compare=False)  # an index tells less than the packets


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a deployment accepts."""

    max_pixels: int
    max_duration_s: float


def judge(facts: Facts, bounds: Bounds) -> ProbeReport:
    """The report of a usable file. Raises TaskFailed with the first thing that is wrong with it."""
    video = facts.video
    if video is None:
        raise TaskFailed(FailureKind.NO_VIDEO_STREAM, "The file has no video stream" + (", only sound." if facts.audio else "."))
    if video.codec not in VIDEO_CODECS:
        raise TaskFailed(FailureKind.UNSUPPORTED_CODEC, f"The picture is coded as {video.codec or 'something unknown'}.")
    width, height = _square_size(video)
    _check_size(video, width, height, bounds)
    _check_whole(facts, video)
    rate, variable = frame_rate(video)
    first, last = _exact(video.first), _exact(video.last)
    start = _exact(facts.start)
    zero = first - round((first - start) * rate) / rate
    audio = _best_audio(facts.audio)
    ends = [last + 1 / rate, min(_exact(video.end), _stated_end(facts, video))]
    if audio is not None:
        ends.append(_exact(audio.end))
    duration = max(max(ends) - zero, 1 / rate)
    if duration > bounds.max_duration_s:
        stated = f"{float(duration) / 3600:.1f} hours; at most {bounds.max_duration_s / 3600:.1f} are accepted"
        raise TaskFailed(FailureKind.TOO_LONG, f"The video lasts {stated}.")
    return ProbeReport(
        duration=duration,
        zero=zero,
        frame_rate=rate,
        variable=variable,
        width=width,
        height=height,
        pixel_format=video.pixel_format,
        video_codec=video.codec,
        video_index=video.index,
        video_end=last + 1 / rate,
        rotation=video.rotation,
        transfer=video.transfer,
        demuxer=facts.demuxer,
        seekable=facts.demuxer in SEEKABLE and not video.refreshed,
        audio=audio,
        audio_streams=len(facts.audio),
        coding=video.coding,
    )


def frame_rate(video: VideoFacts) -> tuple[Fraction, bool]:
    """(constant rate to make, whether the source's own varies).

    Steps within 20 % of the stated rate's are constant: containers with millisecond clocks round them. A variable source
    gets the slowest standard rate that keeps nine of ten steps apart. Rates above 60 are halved until they fit.
    """
    stated = video.stated_rate
    if video.pictures < 3 or video.step_50 <= 0:
        return _within(snapped(stated)) if stated else Fraction(25), False
    steps = (video.step_10, video.step_50, video.step_90)
    if stated and all(0.8 < step * stated < 1.2 or abs(step - 1 / stated) < 0.0016 for step in steps):
        return _within(snapped(stated)), False
    if video.step_90 <= video.step_10 * 1.2:
        return _within(snapped(Fraction(1 / video.step_50).limit_denominator(1001))), False
    wanted = 1 / max(video.step_10, 0.001)
    return next((rate for rate in STANDARD_RATES if rate >= wanted * 0.9996), FASTEST), True


def snapped(rate: Fraction) -> Fraction:
    """The standard rate within 0.04 % (24 and 23.976 are 0.1 % apart), or the rate itself with a small denominator."""
    near = next((standard for standard in STANDARD_RATES if abs(rate / standard - 1) < 0.0004), None)
    return near or rate.limit_denominator(1001)


def _within(rate: Fraction) -> Fraction:
    while rate > FASTEST:
        rate /= 2
    while rate < SLOWEST:
        rate *= 2
    return snapped(rate)


def _exact(seconds: float) -> Fraction:
    """Times are handed over as floats; no container's clock is finer than a microsecond by much."""
    return Fraction(seconds).limit_denominator(10_000_000)


def _square_size(video: VideoFacts) -> tuple[int, int]:
    """Width and height as shown: square pixels, then rotated."""
    aspect = video.sample_aspect if Fraction(1, 8) <= video.sample_aspect <= 8 else Fraction(1)
    width, height = round(video.width * aspect), video.height
    return (height, width) if video.rotation % 180 else (width, height)


def _check_size(video: VideoFacts, width: int, height: int, bounds: Bounds) -> None:
    sides = (width, height, video.width, video.height)
    if min(sides) < SHORTEST_SIDE or max(sides) > LONGEST_SIDE or video.width * video.height > bounds.max_pixels:
        allowed = f"sides from {SHORTEST_SIDE} to {LONGEST_SIDE} pixels and at most {bounds.max_pixels} pixels in all"
        raise TaskFailed(FailureKind.DIMENSIONS, f"The picture is {video.width}x{video.height}; {allowed} are accepted.")


def _check_whole(facts: Facts, video: VideoFacts) -> None:
    if not video.pictures:
        raise TaskFailed(FailureKind.TRUNCATED, "The file announces a video stream but holds no picture.")
    if facts.stated_duration is None or facts.demuxer not in DURATION_IS_STATED:
        return
    stated_end = facts.start + facts.stated_duration
    missing = stated_end - facts.data_end
    if missing > max(0.5, 0.02 * facts.stated_duration):
        lasts = f"{facts.stated_duration:.1f} s, but its data ends after {max(0.0, facts.data_end - facts.start):.1f} s"
        raise TaskFailed(FailureKind.TRUNCATED, f"The file says that it lasts {lasts}.")
    if facts.damaged_packets and facts.demuxer == "mov":
        raise TaskFailed(FailureKind.TRUNCATED, "The file's index names data that the file does not hold.")


def _stated_end(facts: Facts, video: VideoFacts) -> Fraction:
    """The last picture's own duration counts only as far as the file's: some writers repeat the step before it."""
    if facts.stated_duration is None or not math.isfinite(facts.stated_duration):
        return _exact(video.last)
    return _exact(facts.start + facts.stated_duration)


def _best_audio(streams: tuple[AudioFacts, ...]) -> AudioFacts | None:
    """The default stream, else the first; streams whose format is unknown are passed over."""
    usable = [stream for stream in streams if stream.codec and stream.channels]
    return next((stream for stream in usable if stream.default), usable[0] if usable else None)


def facts_from_json(data: dict[str, Any]) -> Facts:
    """The child's answer as `Facts`. Raises KeyError, TypeError or ValueError when it is none."""
    video = data["video"]
    return Facts(
        demuxer=str(data["demuxer"]),
        start=float(data["start"]),
        stated_duration=None if data["stated_duration"] is None else float(data["stated_duration"]),
        data_end=float(data["data_end"]),
        damaged_packets=int(data["damaged_packets"]),
        streams=int(data["streams"]),
        video=None
        if video is None
        else VideoFacts(
            **{
                **video,
                "sample_aspect": Fraction(video["sample_aspect"]),
                "stated_rate": Fraction(video["stated_rate"]) if video["stated_rate"] else None,
                "coding": _coding(video.get("coding")),
            }
        ),
        audio=tuple(AudioFacts(**{**stream, "language": _language(str(stream["language"]))}) for stream in data["audio"]),
    )


def _language(said: str) -> str:
    """Matroska lets a file say anything here, and manifests say it again: what is no language tag (RFC 5646) is left out."""
    return said if _LANGUAGE.match(said) else ""


def _coding(values: dict[str, Any] | None) -> CodingFacts | None:
    if values is None:
        return None
    return CodingFacts(**{**values, "step": Fraction(values["step"]) if values["step"] else None})
