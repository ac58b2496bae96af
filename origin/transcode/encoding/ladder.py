"""Which rungs are made of a picture: never larger than the source, even sizes, aspect kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.settings.origin import Av1, Rung  # not at run time: the probe's child, which viewers wait for, has no settings

H264, AV1 = "h264", "av1"
WORTH_A_RUNG = 1.1  # a source this much above its highest fitting rung gets one of its own size


@dataclass(frozen=True, slots=True)
class VideoRung:
    """One video rendition. `name` is that of the shorter side, `360p`, for upright pictures too.

    A `copied` one is the source's own stream, packaged anew.
    """

    name: str
    width: int
    height: int
    max_bitrate_kbps: int
    crf: float
    copied: bool = False
    codec: str = H264

    @property
    def short_side(self) -> int:
        return min(self.width, self.height)


def ladder_for(width: int, height: int, rungs: Sequence[Rung]) -> tuple[VideoRung, ...]:
    """The rungs for a picture of `width` x `height`, smallest first; never empty.

    The size in the settings is that of the shorter side. A picture between two rungs, or below all, also gets its own size,
    at the bit rate of the rung above in proportion to its pixels.
    """
    short = _even(min(width, height))
    ordered = sorted({rung.height: rung for rung in rungs}.values(), key=lambda rung: rung.height)
    fitting = [rung for rung in ordered if rung.height <= short]
    above = next((rung for rung in ordered if rung.height > short), None)
    if above is not None and (not fitting or short >= fitting[-1].height * WORTH_A_RUNG):
        share = (short / above.height) ** 2
        floor = fitting[-1].max_bitrate_kbps if fitting else 100
        own_kbps = max(floor, round(above.max_bitrate_kbps * share))
        return (*(_sized(rung, width, height) for rung in fitting), _named(short, own_kbps, above.crf, width, height))
    return tuple(_sized(rung, width, height) for rung in fitting)


def av1_rungs(rungs: Sequence[VideoRung], settings: Av1) -> tuple[VideoRung, ...]:
    """The same sizes as AV1, those that the settings name, smallest first. Quality is on SVT-AV1's scale; the cap is a share."""
    chosen = [rung for rung in rungs if settings.heights is None or rung.short_side in settings.heights]
    return tuple(
        replace(rung, codec=AV1, copied=False, crf=settings.crf, max_bitrate_kbps=round(rung.max_bitrate_kbps * settings.share))
        for rung in sorted(chosen, key=lambda rung: rung.short_side)
    )


def lowest_useful(rungs: Sequence[VideoRung], first_height: int) -> VideoRung:
    """The rung to publish first: the smallest that is not below `first_height`, else the largest there is."""
    useful = [rung for rung in rungs if rung.short_side >= first_height]
    return useful[0] if useful else rungs[-1]


def in_publishing_order(rungs: Sequence[VideoRung], first_height: int) -> tuple[VideoRung, ...]:
    """The lowest useful one, then upwards, then those below it."""
    first = lowest_useful(rungs, first_height)
    higher = [rung for rung in rungs if rung.short_side > first.short_side]
    lower = [rung for rung in rungs if rung.short_side < first.short_side]
    return (first, *higher, *reversed(lower))


def _sized(rung: Rung, width: int, height: int) -> VideoRung:
    return _named(rung.height, rung.max_bitrate_kbps, rung.crf, width, height)


def _named(short: int, max_bitrate_kbps: int, crf: float, width: int, height: int) -> VideoRung:
    long_source, short_source = max(width, height), min(width, height)
    long = max(2, min(2 * round(long_source * short / short_source / 2), _even(long_source)))
    size = (long, short) if width >= height else (short, long)
    return VideoRung(f"{short}p", *size, max_bitrate_kbps, crf)


def _even(pixels: int) -> int:
    return pixels - pixels % 2
