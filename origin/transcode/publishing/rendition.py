"""A rendition, whole or still growing, as its manifests describe it, and the check that it must pass before anyone sees it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from headwater.rules.mediapath import INIT, segment_name
from origin.transcode.failure import FailureKind, TaskFailed, inconsistent
from origin.transcode.media.initsegment import Header, header_of
from origin.transcode.media.isobmff import NotIsoBmff, SegmentFacts, read_moov, segment_facts
from origin.transcode.publishing.verify import check_opening

DESCRIPTION = "rendition.json"


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """`ticks` of the rendition's timescale, `size` in bytes; the first `opening` of them end with the first picture."""

    ticks: int
    size: int
    opening: int = 0


@dataclass(frozen=True, slots=True)
class Rendition:
    """`segments` in order from number 0. `frame_rate`, `width` and `height` are of video only; `channels` of audio only.

    One that is not `whole` has its first segments so far; `ceiling_bps` then says what those to come keep below.
    """

    codec: str
    rung: str
    kind: Literal["video", "audio"]
    codecs: str
    timescale: int
    segments: tuple[SegmentSize, ...]
    init_bytes: int
    width: int | None = None
    height: int | None = None
    frame_rate: Fraction | None = None
    channels: int | None = None
    language: str = ""
    whole: bool = True
    ceiling_bps: int = 0
    folder: str = ""  # where its files lie, when it was begun anew under another name

    @property
    def path(self) -> str:
        return f"{self.codec}/{self.folder or self.rung}"

    @property
    def duration(self) -> Fraction:
        return Fraction(sum(segment.ticks for segment in self.segments), self.timescale)

    @property
    def size_bytes(self) -> int:
        return self.init_bytes + sum(segment.size for segment in self.segments)

    @property
    def target_duration_s(self) -> int:
        """EXT-X-TARGETDURATION: no segment, rounded to whole seconds, is longer (RFC 8216 4.3.3.1)."""
        longest = Fraction(max(segment.ticks for segment in self.segments), self.timescale)
        return max(1, math.floor(longest + Fraction(1, 2)))

    @property
    def average_bandwidth_bps(self) -> int:
        return math.ceil(8 * sum(segment.size for segment in self.segments) / self.duration)

    @property
    def bandwidth_bps(self) -> int:
        """The peak over contiguous segments that last 0.5 to 1.5 target durations together (RFC 8216 4.1)."""
        low, high = Fraction(self.target_duration_s, 2), Fraction(3 * self.target_duration_s, 2)
        peak = Fraction(max(self.average_bandwidth_bps, self.ceiling_bps))
        for first in range(len(self.segments)):
            size, lasts = 0, Fraction(0)
            for segment in self.segments[first:]:
                size += segment.size
                lasts += Fraction(segment.ticks, self.timescale)
                if lasts > high:
                    break
                if lasts >= low:
                    peak = max(peak, 8 * size / lasts)
        return math.ceil(peak)

    def to_json(self) -> str:
        values = asdict(self)
        values["segments"] = [[segment.ticks, segment.size, segment.opening] for segment in self.segments]
        values["frame_rate"] = str(self.frame_rate) if self.frame_rate else None
        return json.dumps(values, sort_keys=True)


def rendition_from_json(text: str) -> Rendition:
    values: dict[str, Any] = json.loads(text)
    values["segments"] = tuple(SegmentSize(*sizes) for sizes in values["segments"])
    values["frame_rate"] = Fraction(values["frame_rate"]) if values["frame_rate"] else None
    return Rendition(**values)


@dataclass(frozen=True, slots=True)
class MeasuredRung:
    """What the files of a rendition say: its header, its header's size, and of each segment its size and what its boxes say."""

    header: Header
    init_bytes: int
    segments: tuple[SegmentSize, ...]
    facts: tuple[SegmentFacts, ...]


def measure(files: Sequence[Path], init: Path, first: int = 0, begins_at: int = 0) -> MeasuredRung:
    """Reads every segment back and checks that they join: numbers from `first`, times from `begins_at` (ticks), keyframes.

    Raises TaskFailed.
    """
    try:
        with init.open("rb") as file:
            header = header_of(read_moov(file))
        facts = tuple(_opened(path, header) for path in files)
    except NotIsoBmff as error:
        raise TaskFailed(FailureKind.UNREADABLE, f"A segment cannot be read back: {error}.") from error
    except OSError as error:
        raise TaskFailed(FailureKind.UNREADABLE, f"A segment cannot be read back: {error.strerror}.", str(error)) from error
    expected = begins_at
    for number, (path, fact) in enumerate(zip(files, facts, strict=True), first):
        if path.name != segment_name(number):
            raise inconsistent(f"segment {number} is called {path.name}")
        if fact.decode_time != expected:
            raise inconsistent(f"segment {number} begins at {fact.decode_time} instead of {expected}", FailureKind.GAP_IN_TIME)
        expected += fact.duration
    sizes = tuple(
        SegmentSize(fact.duration, file.stat().st_size, fact.first_end) for file, fact in zip(files, facts, strict=True)
    )
    return MeasuredRung(header, init.stat().st_size, sizes, facts)


def _opened(path: Path, header: Header) -> SegmentFacts:
    facts, first_sample = segment_facts(path.read_bytes())
    check_opening(path.name, facts, first_sample, header)
    return facts


def boundaries(rendition: Rendition) -> list[Fraction]:
    """Where segments end, in seconds."""
    ends, at = [], 0
    for segment in rendition.segments:
        at += segment.ticks
        ends.append(Fraction(at, rendition.timescale))
    return ends


def check_renditions(renditions: Sequence[Rendition], duration: Fraction, frame: Fraction) -> None:
    """Video rungs switch at the same places and all last as long as the source, within a frame, or not longer while they grow.

    Raises TaskFailed.
    """
    video = [rendition for rendition in renditions if rendition.kind == "video"]
    for one, other in pairwise(video):
        mine, theirs = boundaries(one), boundaries(other)
        shared = min(len(mine), len(theirs))
        if mine[:shared] != theirs[:shared] or (one.whole and other.whole and len(mine) != len(theirs)):
            raise inconsistent(f"{one.path} and {other.path} have different segment boundaries", FailureKind.UNEVEN_SEGMENTS)
    for rendition in renditions:
        # Sound ends with a whole AAC frame, which may stand out.
        slack = frame + (Fraction(1024, 48000) if rendition.kind == "audio" else 0)
        excess = rendition.duration - duration
        if excess > slack or (rendition.whole and -excess > slack):
            lasts = f"{float(rendition.duration):.3f} s instead of {float(duration):.3f} s"
            raise inconsistent(f"{rendition.path} lasts {lasts}", FailureKind.OUT_OF_SYNC)


def collect_segments(folders: Sequence[Path]) -> tuple[list[Path], Path]:
    """(segments in order, init) of a rung's ranges, whose headers must be one and the same. Raises TaskFailed."""
    inits = {(folder / INIT).read_bytes() for folder in folders}
    if len(inits) != 1:
        raise inconsistent(f"its {len(folders)} ranges have {len(inits)} different headers")
    files = [file for folder in folders for file in sorted(folder.glob("segment_*.m4s"))]
    return files, folders[0] / INIT
