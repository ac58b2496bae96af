"""What an H.264 stream says about itself: sequence parameter sets and NAL units (ITU-T H.264; section numbers are its)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from origin.transcode.media.bits import Bits
from origin.transcode.media.isobmff import NotIsoBmff

SLICE, IDR_SLICE, SEQUENCE_PARAMETERS = 1, 5, 7  # nal_unit_type, table 7-1
INTRA_SLICES = (2, 4)  # slice_type modulo 5: I and SI, table 7-6
WITH_CHROMA_FORMAT = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})  # profiles, 7.3.2.1.1
CHROMA_420 = 1
CROP_UNITS = {0: (1, 1), 1: (2, 2), 2: (2, 1), 3: (1, 1)}  # of (width, height) by chroma format, table 6-1


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence parameter set. Sizes are after cropping; `progressive` is frame_mbs_only_flag."""

    profile: int
    level: int
    chroma_format: int
    bit_depth: int
    width: int
    height: int
    progressive: bool


def sequence_of(unit: bytes) -> Sequence:
    """Reads a NAL unit of type 7 up to its cropping (7.3.2.1.1). Raises NotIsoBmff."""
    if len(unit) < 5 or unit[0] & 0x1F != SEQUENCE_PARAMETERS:
        raise NotIsoBmff("a sequence parameter set was expected")
    profile, level = unit[1], unit[3]
    bits = Bits(unit[4:].replace(b"\0\0\3", b"\0\0"), "a parameter set")  # emulation prevention, 7.4.1
    bits.unsigned()  # seq_parameter_set_id
    chroma_format, bit_depth = CHROMA_420, 8
    if profile in WITH_CHROMA_FORMAT:
        chroma_format = bits.unsigned()
        if chroma_format == 3:
            bits.take(1)  # separate_colour_plane_flag
        bit_depth = 8 + bits.unsigned()
        bit_depth = max(bit_depth, 8 + bits.unsigned())
        bits.take(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.take(1):
            _skip_scaling_lists(bits, 12 if chroma_format == 3 else 8)
    bits.unsigned()  # log2_max_frame_num_minus4
    _skip_picture_order(bits)
    bits.unsigned()  # max_num_ref_frames
    bits.take(1)  # gaps_in_frame_num_value_allowed_flag
    macroblocks_wide, map_units_high = bits.unsigned() + 1, bits.unsigned() + 1
    progressive = bool(bits.take(1))
    if not progressive:
        bits.take(1)  # mb_adaptive_frame_field_flag
    bits.take(1)  # direct_8x8_inference_flag
    left, right, top, bottom = (bits.unsigned() for _ in range(4)) if bits.take(1) else (0, 0, 0, 0)
    if chroma_format not in CROP_UNITS:
        raise NotIsoBmff(f"chroma format {chroma_format}")
    across, down = CROP_UNITS[chroma_format]
    fields = 1 if progressive else 2
    width = 16 * macroblocks_wide - across * (left + right)
    height = fields * (16 * map_units_high - down * (top + bottom))
    return Sequence(profile, level, chroma_format, bit_depth, width, height, progressive)


def _skip_scaling_lists(bits: Bits, lists: int) -> None:
    """7.3.2.1.1.1."""
    for number in range(lists):
        if not bits.take(1):
            continue
        last = following = 8
        for _ in range(16 if number < 6 else 64):
            if following:
                following = (last + bits.signed()) % 256
            last = following or last


def _skip_picture_order(bits: Bits) -> None:
    kind = bits.unsigned()  # pic_order_cnt_type
    if kind == 0:
        bits.unsigned()
    elif kind == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        for _ in range(min(bits.unsigned(), 255)):
            bits.signed()


@dataclass(frozen=True, slots=True)
class Configuration:
    """avcC (ISO/IEC 14496-15 5.3.3.1): what a decoder is set up with."""

    codecs: str
    length_bytes: int
    sequences: tuple[Sequence, ...]


def configuration_of(payload: bytes) -> Configuration:
    """Raises NotIsoBmff, also when it says another profile or level than its parameter sets."""
    if len(payload) < 6 or payload[0] != 1:
        raise NotIsoBmff("an avcC of version 1 was expected")
    units, at = [], 6
    for _ in range(payload[5] & 0x1F):
        (size,) = struct.unpack(">H", payload[at : at + 2].rjust(2, b"\0"))
        units.append(payload[at + 2 : at + 2 + size])
        at += 2 + size
    if not units:
        raise NotIsoBmff("there is no sequence parameter set")
    for unit in units:
        if unit[1:4] != payload[1:4]:
            raise NotIsoBmff(f"avcC says {payload[1:4].hex()}, its parameter set {unit[1:4].hex()}")
    return Configuration(f"avc1.{payload[1:4].hex()}", (payload[4] & 3) + 1, tuple(map(sequence_of, units)))


class Opening(StrEnum):
    """How decoding can begin at a picture that a file calls a keyframe."""

    IDR = "idr"  # nothing after it needs what was before it
    INTRA = "intra"  # whole by itself; some that follow it may need what was before it
    REFRESH = "refresh"  # becomes whole over the pictures that follow


def opening(sample: bytes, length_bytes: int = 4) -> Opening:
    """By the picture's first slice. Raises NotIsoBmff."""
    for unit in nal_units(sample, length_bytes):
        kind = unit[0] & 0x1F
        if kind == IDR_SLICE:
            return Opening.IDR
        if kind == SLICE:
            bits = Bits(unit[1:24].replace(b"\0\0\3", b"\0\0"), "a slice header")
            bits.unsigned()  # first_mb_in_slice, 7.3.3
            return Opening.INTRA if bits.unsigned() % 5 in INTRA_SLICES else Opening.REFRESH
    raise NotIsoBmff("the sample holds no slice")


def nal_units(sample: bytes, length_bytes: int = 4) -> Iterator[bytes]:
    """The units of a sample, which follow their lengths. Raises NotIsoBmff."""
    at = 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + length_bytes], "big")
        at += length_bytes
        if not size or at + size > len(sample):
            raise NotIsoBmff("a NAL unit leads out of its sample")
        yield sample[at : at + size]
        at += size
