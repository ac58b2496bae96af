"""ISO base media file format, as much as CMAF needs: boxes, samples of fragments, and segments written from samples.

ISO/IEC 14496-12; section numbers below are those of its 2015 edition. Everything is big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

NON_SYNC = 0x0001_0000  # sample_is_non_sync_sample, 8.8.3.1
SYNC_FLAGS = 0x0200_0000  # sample_depends_on 2: an I picture
DEPENDENT_FLAGS = 0x0101_0000  # sample_depends_on 1, non-sync
LARGEST_BOX_IN_MEMORY = 2**30


class NotIsoBmff(ValueError):
    """The bytes are not what ISO/IEC 14496-12 says."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box: `payload` is what follows its header (size, type)."""

    kind: bytes
    payload: bytes

    def encode(self) -> bytes:
        return box(self.kind, self.payload)


def box(kind: bytes, *payload: bytes) -> bytes:
    """A box of that type around the joined payload."""
    body = b"".join(payload)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def full_box(kind: bytes, version: int, flags: int, *payload: bytes) -> bytes:
    """A box that begins with version and flags (4.2)."""
    return box(kind, struct.pack(">I", version << 24 | flags), *payload)


def boxes(data: bytes) -> Iterator[Box]:
    """The boxes that follow each other in `data`. Raises NotIsoBmff when a size leads out of it."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise NotIsoBmff(f"{len(data) - at} stray bytes at {at}")
        size, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1 and len(data) - at >= 16:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        elif size == 0:
            size = len(data) - at
        if size < header or at + size > len(data):
            raise NotIsoBmff(f"box {kind!r} at {at} claims {size} bytes of {len(data) - at}")
        yield Box(kind, data[at + header : at + size])
        at += size


def children(parent: bytes, kind: bytes) -> list[Box]:
    return [found for found in boxes(parent) if found.kind == kind]


def find(data: bytes, *path: bytes) -> bytes:
    """The payload of the first box at `path`, such as (b"moov", b"trak", b"tkhd"). Raises NotIsoBmff without it."""
    for kind in path:
        found = next((child for child in boxes(data) if child.kind == kind), None)
        if found is None:
            raise NotIsoBmff(f"there is no {b'/'.join(path).decode('latin-1')}")
        data = found.payload
    return data


def top_level(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(type, offset, size) of each whole box of a file; a last box that is cut off ends it."""
    end = file.seek(0, 2)
    at = 0
    while at + 8 <= end:
        file.seek(at)
        header = file.read(16)
        size, kind = struct.unpack_from(">I4s", header)
        if size == 1 and len(header) == 16:
            (size,) = struct.unpack_from(">Q", header, 8)
        elif size == 0:
            size = end - at
        if size < 8 or at + size > end:
            return
        yield kind, at, size
        at += size


@dataclass(frozen=True, slots=True)
class Sample:
    """One coded picture or audio frame. Times are in the track's timescale; `offset` is composition minus decode time."""

    duration: int
    flags: int
    offset: int
    data: bytes

    @property
    def sync(self) -> bool:
        return not self.flags & NON_SYNC


@dataclass(frozen=True, slots=True)
class Defaults:
    """Sample defaults of trex (8.8.3) or tfhd (8.8.7)."""

    duration: int = 0
    size: int = 0
    flags: int = 0


def track_defaults(moov: bytes) -> Defaults:
    """The trex of the first track of a moov's payload."""
    trex = find(moov, b"mvex", b"trex")
    _, _, _, duration, size, flags = struct.unpack(">6I", trex[:24])
    return Defaults(duration, size, flags)


def fragment_samples(moof: bytes, mdat: bytes, mdat_offset: int, trex: Defaults) -> Iterator[Sample]:
    """Samples of one moof's payload whose data is in `mdat`; `mdat_offset` is mdat's payload, counted from moof's first byte.

    One track, data relative to the moof (default-base-is-moof), as ffmpeg writes CMAF.
    """
    traf = find(moof, b"traf")
    defaults = _tfhd(find(traf, b"tfhd"), trex)
    for trun in children(traf, b"trun"):
        yield from _trun(trun.payload, defaults, mdat, mdat_offset)


def _tfhd(payload: bytes, trex: Defaults) -> Defaults:
    flags = int.from_bytes(payload[1:4], "big")
    at = 8
    values = {0x8: trex.duration, 0x10: trex.size, 0x20: trex.flags}
    for bit, width in ((0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4), (0x20, 4)):
        if flags & bit:
            values[bit] = int.from_bytes(payload[at : at + width], "big")
            at += width
    if 0x1 in values:
        raise NotIsoBmff("data is addressed from the file's start; default-base-is-moof was expected")
    return Defaults(values[0x8], values[0x10], values[0x20])


def _trun(payload: bytes, defaults: Defaults, mdat: bytes, mdat_offset: int) -> Iterator[Sample]:
    flags = int.from_bytes(payload[1:4], "big")
    (count,) = struct.unpack_from(">I", payload, 4)
    at, data_at, first_flags = 8, 0, None
    if flags & 0x1:
        (data_offset,) = struct.unpack_from(">i", payload, at)
        data_at = data_offset - mdat_offset
        at += 4
    if flags & 0x4:
        (first_flags,) = struct.unpack_from(">I", payload, at)
        at += 4
    signed = payload[0] > 0
    for index in range(count):
        duration, size, sample_flags, offset = defaults.duration, defaults.size, defaults.flags, 0
        if index == 0 and first_flags is not None:
            sample_flags = first_flags
        if flags & 0x100:
            (duration,) = struct.unpack_from(">I", payload, at)
            at += 4
        if flags & 0x200:
            (size,) = struct.unpack_from(">I", payload, at)
            at += 4
        if flags & 0x400:
            (sample_flags,) = struct.unpack_from(">I", payload, at)
            at += 4
        if flags & 0x800:
            (offset,) = struct.unpack_from(">i" if signed else ">I", payload, at)
            at += 4
        if data_at < 0 or data_at + size > len(mdat):
            raise NotIsoBmff("a sample lies outside of its mdat")
        yield Sample(duration, sample_flags, offset, mdat[data_at : data_at + size])
        data_at += size


def read_samples(file: BinaryIO) -> Iterator[Sample]:
    """All samples of a fragmented file with one track, in decode order, one fragment in memory at a time."""
    defaults = Defaults()
    moof, moof_at = b"", 0
    for kind, at, size in top_level(file):
        if kind not in (b"moov", b"moof", b"mdat"):
            continue
        if size > LARGEST_BOX_IN_MEMORY:
            raise NotIsoBmff(f"a box of {size} bytes")
        file.seek(at)
        payload = next(boxes(file.read(size))).payload
        if kind == b"moov":
            defaults = track_defaults(payload)
        elif kind == b"moof":
            moof, moof_at = payload, at
        elif moof:
            yield from fragment_samples(moof, payload, at + size - len(payload) - moof_at, defaults)
            moof = b""


def read_moov(file: BinaryIO) -> bytes:
    """The payload of a file's moov."""
    for kind, at, size in top_level(file):
        if kind == b"moov":
            file.seek(at)
            return next(boxes(file.read(size))).payload
    raise NotIsoBmff("there is no moov")


STYP = box(b"styp", b"cmfs", bytes(4), b"cmfs", b"msdh")


def encode_segment(number: int, decode_time: int, samples: Sequence[Sample]) -> bytes:
    """A CMAF segment: styp, one moof, one mdat. `decode_time` is its first sample's, in the track's timescale.

    mfhd counts from 1. Every sample states duration, size, flags and offset, so that nothing hangs on trex.
    """
    entries = b"".join(struct.pack(">IIIi", sample.duration, len(sample.data), sample.flags, sample.offset) for sample in samples)

    def moof(data_offset: int) -> bytes:
        trun = full_box(b"trun", 1, 0xF01, struct.pack(">Ii", len(samples), data_offset), entries)
        tfhd = full_box(b"tfhd", 0, 0x02_0000, struct.pack(">I", 1))
        tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", decode_time))
        return box(b"moof", full_box(b"mfhd", 0, 0, struct.pack(">I", number + 1)), box(b"traf", tfhd, tfdt, trun))

    header = moof(len(moof(0)) + 8)
    return b"".join((STYP, header, box(b"mdat", *(sample.data for sample in samples))))


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What one segment's boxes say.

    `sample_ticks` is how long each sample lasts, None when they differ; `syncs` are the places of sync samples; `first_end` is
    where the first sample's bytes end, counted from the segment's first byte. `shown_evenly`: the first sample is shown
    first, and each other one duration after the one before it.
    """

    decode_time: int
    duration: int
    samples: int
    sample_ticks: int | None
    syncs: tuple[int, ...]
    first_offset: int
    first_end: int
    shown_evenly: bool = True

    @property
    def starts_with_sync(self) -> bool:
        return self.syncs[:1] == (0,)


def segment_facts(data: bytes) -> tuple[SegmentFacts, bytes]:
    """Reads back a segment with one moof and one mdat: its facts, and its first sample's data. Raises NotIsoBmff."""
    at, moof, moof_at = 0, b"", 0
    for found in boxes(data):
        length = len(found.payload) + 8
        if found.kind == b"moof":
            moof, moof_at = found.payload, at
        elif found.kind == b"mdat":
            samples = list(fragment_samples(moof, found.payload, at + 8 - moof_at, Defaults()))
            (decode_time,) = struct.unpack(">Q", find(moof, b"traf", b"tfdt")[4:12])
            if not samples:
                break
            lasts = {sample.duration for sample in samples}
            facts = SegmentFacts(
                decode_time=decode_time,
                duration=sum(sample.duration for sample in samples),
                samples=len(samples),
                sample_ticks=lasts.pop() if len(lasts) == 1 else None,
                syncs=tuple(place for place, sample in enumerate(samples) if sample.sync),
                first_offset=samples[0].offset,
                first_end=at + 8 + len(samples[0].data),
                shown_evenly=_shown_evenly(samples),
            )
            return facts, samples[0].data
        at += length
    raise NotIsoBmff("the segment has no samples")


def _shown_evenly(samples: Sequence[Sample]) -> bool:
    shown, decoded = [], 0
    for sample in samples:
        shown.append(decoded + sample.offset)
        decoded += sample.duration
    step = samples[0].duration
    return sorted(shown) == [shown[0] + step * place for place in range(len(samples))]
