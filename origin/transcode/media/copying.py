"""Whether a source can be a rung as it is: packaged without encoding it again. Pure; every way of not fitting has a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.media import avc
from origin.transcode.media.source import CodingFacts, ProbeReport

PROFILES = frozenset({66, 77, 100})  # Baseline, Main, High: what every player decodes
HIGHEST_LEVEL = 52
PEAK_SHARE = Fraction(3, 2)  # of a cap: what x264 may reach over four seconds with the buffer of two that rungs have
WINDOW_S = 4
MOST_PICTURES = 3_000_000  # 12 hours at 60 a second, and some


class Misfit(StrEnum):
    """Why a source is encoded, not copied."""

    NOT_H264 = "not-h264"
    NOT_INDEXED = "not-indexed"
    PROFILE = "profile"
    PIXELS = "pixels"
    INTERLACED = "interlaced"
    SIZE = "size"
    ROTATED = "rotated"
    EDITED = "edited"
    RATE = "rate"
    LENGTH = "length"
    KEYFRAMES = "keyframes"
    REORDERED = "reordered"
    TOO_FAT = "too-fat"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Grid:
    """What a rung's timing asks of a copy."""

    frame_rate: Fraction
    frames: int
    segment_frames: int
    reordered: int


def misfit(report: ProbeReport, rung: VideoRung, grid: Grid, *, first: bool) -> Misfit | None:
    """The first thing that keeps the source from being `rung` as it is; None when it fits.

    The rung published `first` is shown while it grows, so all of its source must have been looked at; of others an index is
    enough, since they are checked before they are shown, and encoded when they do not pass.
    """
    coding = report.coding
    if report.video_codec != "h264" or coding is None:
        return Misfit.NOT_H264
    found = {
        Misfit.NOT_INDEXED: report.demuxer != "mov" or not report.seekable,
        Misfit.PROFILE: coding.profile not in PROFILES or coding.level > HIGHEST_LEVEL,
        Misfit.PIXELS: report.pixel_format != "yuv420p"
        or bool(report.transfer)
        or (coding.chroma_format, coding.bit_depth) != (avc.CHROMA_420, 8),
        Misfit.INTERLACED: not coding.progressive,
        Misfit.ROTATED: report.rotation != 0,
        Misfit.SIZE: (rung.width, rung.height) != (report.width, report.height)
        or (rung.width, rung.height) != (coding.width, coding.height),
        Misfit.EDITED: coding.edited,
        Misfit.RATE: report.variable or coding.step is None or coding.step * grid.frame_rate != 1,
        Misfit.LENGTH: coding.pictures != grid.frames,
        Misfit.KEYFRAMES: coding.key_period is None or grid.segment_frames % coding.key_period != 0,
        Misfit.REORDERED: not coding.closed or coding.reordered > grid.reordered,
        Misfit.TOO_FAT: coding.mean_bps > 1000 * rung.max_bitrate_kbps
        or coding.peak_bps > PEAK_SHARE * 1000 * rung.max_bitrate_kbps,
        Misfit.UNREAD: first and not coding.read,
    }
    return next((reason for reason, holds in found.items() if holds), None)


def with_copies(rungs: Sequence[VideoRung], report: ProbeReport, grid: Grid) -> tuple[VideoRung, ...]:
    """The rungs, in publishing order, with those that the source fits marked."""
    return tuple(
        replace(rung, copied=True) if misfit(report, rung, grid, first=place == 0) is None else rung
        for place, rung in enumerate(rungs)
    )


class Picture(NamedTuple):
    """One coded picture, in decoding order. `at` is when it is shown, in ticks, or decoded where only that is known."""

    at: int
    key: bool
    size: int


def coding_facts(
    pictures: Sequence[Picture], tick: Fraction, sequence: avc.Sequence, *, edited: bool, read: bool
) -> CodingFacts | None:
    """What the pictures say together; `tick` in seconds. None when nothing can be copied."""
    if not pictures or len(pictures) > MOST_PICTURES:
        return None
    times = sorted(picture.at for picture in pictures)
    steps = {after - before for before, after in pairwise(times)}
    keys = [place for place, picture in enumerate(pictures) if picture.key]
    ranks = {at: rank for rank, at in enumerate(times)}
    mean, peak = _rates(pictures, times[0], tick)
    return CodingFacts(
        profile=sequence.profile,
        level=sequence.level,
        chroma_format=sequence.chroma_format,
        bit_depth=sequence.bit_depth,
        width=sequence.width,
        height=sequence.height,
        progressive=sequence.progressive,
        pictures=len(pictures),
        step=steps.pop() * tick if len(steps) == 1 else None,
        key_period=key_period(keys, len(pictures)),
        closed=_closed(pictures, keys),
        reordered=max(place - ranks[picture.at] for place, picture in enumerate(pictures)),
        mean_bps=mean,
        peak_bps=peak,
        edited=edited,
        read=read,
    )


def key_period(keys: Sequence[int], pictures: int) -> int | None:
    """The smallest number whose multiples are all keyframes; None when there is none below the whole."""
    places = set(keys)
    candidates = [key for key in keys if key] or [pictures]
    return next((step for step in candidates if all(place in places for place in range(0, pictures, step))), None)


def _closed(pictures: Sequence[Picture], keys: Sequence[int]) -> bool:
    """Whether nothing is shown before the keyframe that it is decoded after, nor after the next."""
    if not keys:
        return False
    ends = [*keys[1:], len(pictures)]
    latest = -(2**62)
    for start, end in zip(keys, ends, strict=True):
        times = [picture.at for picture in pictures[start:end]]
        if min(times) != times[0] or times[0] <= latest:
            return False
        latest = max(times)
    return True


def _rates(pictures: Sequence[Picture], begins_at: int, tick: Fraction) -> tuple[int, int]:
    """(mean, peak) in bit/s; the peak is over WINDOW_S from each whole second."""
    by_second: list[int] = []
    numerator, denominator = tick.numerator, tick.denominator
    for picture in pictures:
        second = max(0, (picture.at - begins_at) * numerator // denominator)
        if second >= len(by_second):
            by_second += [0] * (second + 1 - len(by_second))
        by_second[second] += picture.size
    seconds = len(by_second)
    spans = [sum(by_second[start : start + WINDOW_S]) for start in range(max(1, seconds - WINDOW_S + 1))]
    lasts = max(Fraction(1), (max(picture.at for picture in pictures) - begins_at) * tick)
    mean = int(8 * sum(by_second) / lasts)
    return mean, max(mean, 8 * max(spans) // min(WINDOW_S, seconds))
