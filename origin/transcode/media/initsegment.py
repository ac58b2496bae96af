"""The one canonical `init.mp4` of a rung, and what it says about its codec.

ffmpeg writes one header per range. They are equal but for times and names of the writer, which are left out here; an edit
list is put in, which takes back the delay of B-frames, so that presentation starts at 0.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from origin.transcode.media import av1, avc
from origin.transcode.media.isobmff import Box, NotIsoBmff, box, boxes, children, find, full_box

FTYP = box(b"ftyp", b"iso6", struct.pack(">I", 0), b"iso6", b"cmfc", b"mp41")
DROPPED = frozenset({b"udta", b"meta", b"edts"})


def canonical_init(moov: bytes, delay: int) -> bytes:
    """ftyp and moov. `moov` is the payload ffmpeg wrote; `delay` (ticks) is taken off every presentation time."""
    return FTYP + box(b"moov", *(_canonical(child, delay) for child in boxes(moov) if child.kind not in DROPPED))


def with_stream_header(moov: bytes, first_sample: bytes) -> bytes:
    """The moov's payload, whose av1C says what the stream itself says. Raises NotIsoBmff."""
    path = (b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    stsd = find(moov, *path)
    entry = next(boxes(stsd[8:]))
    old = find(entry.payload[78:], b"av1C")
    new = b"".join(
        box(b"av1C", av1.configured_by(old, first_sample)) if child.kind == b"av1C" else child.encode()
        for child in boxes(entry.payload[78:])
    )
    return _replaced(moov, path, stsd[:8] + box(entry.kind, entry.payload[:78], new))


def _replaced(data: bytes, path: Sequence[bytes], payload: bytes) -> bytes:
    """`data` with another payload of the box at `path`; the first of each kind."""
    parts, done = [], False
    for child in boxes(data):
        if child.kind == path[0] and not done:
            done = True
            parts.append(box(child.kind, _replaced(child.payload, path[1:], payload) if path[1:] else payload))
        else:
            parts.append(child.encode())
    return b"".join(parts)


def _canonical(found: Box, delay: int) -> bytes:
    match found.kind:
        case b"mvhd":
            return box(b"mvhd", _without_times(found.payload))
        case b"trak":
            return box(b"trak", *(_track_part(child, delay) for child in boxes(found.payload) if child.kind not in DROPPED))
        case b"mvex":
            # mehd would state the duration of the one range that ffmpeg saw
            return box(b"mvex", *(child.encode() for child in boxes(found.payload) if child.kind != b"mehd"))
        case _:
            return found.encode()


def _track_part(found: Box, delay: int) -> bytes:
    if found.kind == b"tkhd":
        return box(b"tkhd", _without_times(found.payload, track=True)) + _edit_list(delay)
    return found.encode()


def _without_times(payload: bytes, *, track: bool = False) -> bytes:
    """mvhd or tkhd with creation, modification and duration zero: 0 is "not known", as is right for fragments."""
    if payload[0] != 0:
        raise NotIsoBmff("a header of version 0 was expected")
    after_times = payload[12:20] if track else payload[12:16]  # track id and reserved; timescale
    skipped = 24 if track else 20
    return payload[:4] + bytes(8) + after_times + bytes(4) + payload[skipped:]


def _edit_list(delay: int) -> bytes:
    """One edit that starts at media time `delay` and lasts to the end (8.6.6); none is needed from 0."""
    if not delay:
        return b""
    entry = struct.pack(">IiI", 0, delay, 0x0001_0000)
    return box(b"edts", full_box(b"elst", 0, 0, struct.pack(">I", 1), entry))


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says of its only track. `delay` (ticks) is taken off presentation times; `picture` is (width, height).

    `sound` is (channels, samples a second).
    """

    codecs: str
    timescale: int
    delay: int
    picture: tuple[int, int] | None = None
    sound: tuple[int, int] | None = None
    avc: avc.Configuration | None = None
    av1: av1.Configuration | None = None


def header_of(moov: bytes) -> Header:
    """Raises NotIsoBmff."""
    stsd = find(moov, b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(boxes(stsd[8:]))
    shared = (codecs(moov), timescale(moov), _delay(moov))
    if entry.kind == b"mp4a":
        channels, _, _, _, rate = struct.unpack(">HHHHI", entry.payload[16:28])
        return Header(*shared, sound=(channels, rate >> 16))
    width, height = struct.unpack(">HH", entry.payload[24:28])
    if entry.kind == b"av01":
        return Header(*shared, picture=(width, height), av1=av1.configuration_of(find(entry.payload[78:], b"av1C")))
    return Header(*shared, picture=(width, height), avc=avc.configuration_of(find(entry.payload[78:], b"avcC")))


def _delay(moov: bytes) -> int:
    trak = find(moov, b"trak")
    if not children(trak, b"edts"):
        return 0
    elst = find(trak, b"edts", b"elst")
    count, _, media_time = struct.unpack(">IIi", elst[4:16])
    if elst[0] != 0 or count != 1:
        raise NotIsoBmff("one edit was expected")
    return int(media_time)


def timescale(moov: bytes) -> int:
    """Ticks a second of the first track (mdhd, 8.4.2)."""
    mdhd = find(moov, b"trak", b"mdia", b"mdhd")
    (ticks,) = struct.unpack_from(">I", mdhd, 20 if mdhd[0] == 1 else 12)
    return int(ticks)


def codecs(moov: bytes) -> str:
    """The RFC 6381 name of the first track's codec, such as `avc1.64001f` or `mp4a.40.2`."""
    stsd = find(moov, b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(boxes(stsd[8:]))
    if entry.kind == b"avc1":
        configuration = find(entry.payload[78:], b"avcC")  # after VisualSampleEntry, 12.1.3
        return f"avc1.{configuration[1:4].hex()}"
    if entry.kind == b"av01":
        return av1.configuration_of(find(entry.payload[78:], b"av1C")).sequence.codecs
    if entry.kind == b"mp4a":
        return _mp4a(children(entry.payload[28:], b"esds")[0].payload[4:])  # after AudioSampleEntry, 12.2.3
    raise NotIsoBmff(f"sample entry {entry.kind!r}")


def _mp4a(descriptors: bytes) -> str:
    """Object types out of the descriptors of ISO/IEC 14496-1 7.2.6: ES (3), DecoderConfig (4), DecoderSpecificInfo (5)."""
    _, es = _descriptor(descriptors, 3)
    flags = es[2]
    skipped = 3 + (2 if flags & 0x80 else 0) + (1 + es[3] if flags & 0x40 else 0) + (2 if flags & 0x20 else 0)
    _, config = _descriptor(es[skipped:], 4)
    _, specific = _descriptor(config[13:], 5)
    return f"mp4a.{config[0]:x}.{specific[0] >> 3}"


def _descriptor(data: bytes, expected: int) -> tuple[int, bytes]:
    """(tag, payload); the length is in groups of seven bits."""
    if not data or data[0] != expected:
        raise NotIsoBmff(f"descriptor {expected} was expected")
    at, length = 1, 0
    while True:
        length = length << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return data[0], data[at : at + length]
