"""What an AV1 stream says about itself: its configuration, sequence header and first frame (AV1 Bitstream & Decoding Process
Specification 1.0.0 with errata 1; section numbers are its)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from origin.transcode.media.bits import Bits
from origin.transcode.media.isobmff import NotIsoBmff

SEQUENCE_HEADER, FRAME_HEADER, FRAME = 1, 3, 6  # obu_type, 6.2.2
KEY_FRAME = 0  # frame_type, 6.8.2
MAIN_PROFILE = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence header. `level` is seq_level_idx of the first operating point; `chroma_420` also says that there is chroma."""

    profile: int
    level: int
    high_tier: bool
    bit_depth: int
    chroma_420: bool
    width: int
    height: int

    @property
    def codecs(self) -> str:
        """The name of RFC 6381 kind that the AV1 Codec ISO Media File Format Binding gives it (section 5)."""
        return f"av01.{self.profile}.{self.level:02d}{'H' if self.high_tier else 'M'}.{self.bit_depth:02d}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """av1C (Binding 2.3): what a decoder is set up with. `header` is its sequence header as it stands there."""

    sequence: Sequence
    header: bytes


def configuration_of(payload: bytes) -> Configuration:
    """Raises NotIsoBmff, also when it says something else than the sequence header in it."""
    if len(payload) < 5 or payload[0] != 0x81:
        raise NotIsoBmff("an av1C of version 1 was expected")
    header = next((body for kind, body in units(payload[4:]) if kind == SEQUENCE_HEADER), None)
    if header is None:
        raise NotIsoBmff("there is no sequence header in the av1C")
    found = sequence_of(header)
    said = (payload[1] >> 5, payload[1] & 0x1F, bool(payload[2] & 0x80), bool(payload[2] & 0x40))
    if said != (found.profile, found.level, found.high_tier, found.bit_depth > 8):
        raise NotIsoBmff(f"av1C says {payload[1:3].hex()}, its sequence header {found.codecs}")
    return Configuration(found, header)


def units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each OBU (5.3). Only the last may leave out its size. Raises NotIsoBmff."""
    at = 0
    while at < len(data):
        first = data[at]
        at += 2 if first & 4 else 1
        if first & 2:
            size, at = _leb128(data, at)
        else:
            size = len(data) - at
        if first & 0x80 or size < 0 or at + size > len(data):
            raise NotIsoBmff("an OBU leads out of its sample")
        yield first >> 3 & 15, data[at : at + size]
        at += size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """4.10.5: (value, where it ends)."""
    value = 0
    for place in range(8):
        if at + place >= len(data):
            break
        value |= (data[at + place] & 0x7F) << 7 * place
        if not data[at + place] & 0x80:
            return value, at + place + 1
    raise NotIsoBmff("an OBU has no size that ends")


def sequence_of(header: bytes) -> Sequence:
    """Reads sequence_header_obu (5.5.1) as far as the colours. Raises NotIsoBmff."""
    bits = Bits(header, "a sequence header")
    profile = bits.take(3)
    bits.take(1)  # still_picture
    reduced = bits.flag()
    level, high_tier = (bits.take(5), False) if reduced else _operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    if not reduced and bits.flag():  # frame_id_numbers_present_flag
        bits.take(7)
    bits.take(3)  # use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    if not reduced:
        _skip_tools(bits)
    bits.take(3)  # enable_superres, enable_cdef, enable_restoration
    deep = bits.flag()  # high_bitdepth, 5.5.2
    bit_depth = (12 if bits.flag() else 10) if profile == 2 and deep else 10 if deep else 8
    mono = profile != 1 and bits.flag()
    return Sequence(profile, level, high_tier, bit_depth, profile == MAIN_PROFILE and not mono, width, height)


def _operating_points(bits: Bits) -> tuple[int, bool]:
    """Level and tier of the first operating point."""
    delay_bits = 0
    if bits.flag():  # timing_info_present_flag, 5.5.3
        bits.take(64)
        if bits.flag():
            bits.skip_uvlc()
        if bits.flag():  # decoder_model_info_present_flag, 5.5.4
            delay_bits = bits.take(5) + 1
            bits.take(42)
    display_delay = bits.flag()
    found: list[tuple[int, bool]] = []
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        level = bits.take(5)
        found.append((level, level > 7 and bits.flag()))
        if delay_bits and bits.flag():
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.flag():
            bits.take(4)
    return found[0]


def _skip_tools(bits: Bits) -> None:
    bits.take(4)
    order_hint = bits.flag()
    if order_hint:
        bits.take(2)
    screen_content = 2 if bits.flag() else bits.take(1)
    if screen_content and not bits.flag():
        bits.take(1)
    if order_hint:
        bits.take(3)


def configured_by(payload: bytes, sample: bytes) -> bytes:
    """The av1C with the sequence header of the first sample, as the Binding wants it (2.3.4).

    SVT-AV1 gives muxers a header of before it has chosen its tools, and writes another one into the stream. Raises NotIsoBmff.
    """
    header = next((body for kind, body in units(sample) if kind == SEQUENCE_HEADER), None)
    if header is None:
        raise NotIsoBmff("the first sample has no sequence header")
    if len(header) > 127:
        raise NotIsoBmff(f"a sequence header of {len(header)} bytes")
    found = sequence_of(header)
    tier_and_depth = found.high_tier << 7 | (found.bit_depth > 8) << 6 | payload[2] & 0x3F
    return bytes([payload[0], found.profile << 5 | found.level, tier_and_depth, payload[3], 0x0A, len(header)]) + header


def begins_with_key_frame(sample: bytes, configuration: Configuration) -> bool:
    """Whether decoding can begin here: the first frame is a key frame that is shown (7.6.2), under the same sequence header.

    Raises NotIsoBmff.
    """
    for kind, body in units(sample):
        if kind == SEQUENCE_HEADER and body != configuration.header:
            raise NotIsoBmff("its sequence header is not the one of the av1C")
        if kind in (FRAME, FRAME_HEADER):
            bits = Bits(body[:2], "a frame header")
            return not bits.flag() and bits.take(2) == KEY_FRAME and bits.flag()  # not shown again; frame_type; show_frame
    raise NotIsoBmff("the sample holds no frame")
