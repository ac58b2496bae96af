"""Sequence parameter sets, written bit by bit as ITU-T H.264 7.3.2.1.1 says and read back."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.transcode.media.avc import CROP_UNITS, WITH_CHROMA_FORMAT, Opening, Sequence, configuration_of, opening, sequence_of
from origin.transcode.media.isobmff import NotIsoBmff


@dataclass
class Writer:
    bits: list[int] = field(default_factory=list)

    def put(self, value: int, count: int = 1) -> None:
        self.bits += [value >> place & 1 for place in reversed(range(count))]

    def unsigned(self, value: int) -> None:
        length = (value + 1).bit_length()
        self.put(value + 1, 2 * length - 1)

    def unit(self, head: bytes) -> bytes:
        self.put(1)  # rbsp_trailing_bits
        while len(self.bits) % 8:
            self.put(0)
        text = "".join(map(str, self.bits))
        body = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
        escaped = bytearray()
        for byte in body:
            if byte <= 3 and escaped[-2:] == b"\0\0":
                escaped.append(3)
            escaped.append(byte)
        return head + bytes(escaped)


def written(profile: int, level: int, chroma: int, depth: int, blocks: tuple[int, int], crop: int, progressive: bool) -> bytes:
    to = Writer()
    to.unsigned(0)
    if profile in WITH_CHROMA_FORMAT:
        to.unsigned(chroma)
        if chroma == 3:
            to.put(0)
        to.unsigned(depth - 8)
        to.unsigned(depth - 8)
        to.put(0)
        to.put(1)  # scaling lists, all but the first absent
        to.put(1)
        for _ in range(16):
            to.unsigned(0)
        for _ in range(11 if chroma == 3 else 7):
            to.put(0)
    for value in (4, 0, 4, 3):  # frame number, order count of type 0, references
        to.unsigned(value)
    to.put(0)
    to.unsigned(blocks[0] - 1)
    to.unsigned(blocks[1] - 1)
    to.put(progressive)
    if not progressive:
        to.put(1)
    to.put(1)
    to.put(1)
    for value in (0, crop, 0, crop):
        to.unsigned(value)
    to.put(0)
    return to.unit(bytes([0x67, profile, 0, level]))


@given(
    st.sampled_from([66, 77, 100, 110, 122, 244]),
    st.sampled_from([10, 31, 51]),
    st.integers(0, 3),
    st.sampled_from([8, 10]),
    st.tuples(st.integers(1, 500), st.integers(1, 300)),
    st.integers(0, 3),
    st.booleans(),
)
def test_a_parameter_set_reads_back_as_it_was_written(
    profile: int, level: int, chroma: int, depth: int, blocks: tuple[int, int], crop: int, progressive: bool
) -> None:
    if profile not in WITH_CHROMA_FORMAT:
        chroma, depth = 1, 8
    across, down = CROP_UNITS[chroma]
    fields = 1 if progressive else 2
    size = (16 * blocks[0] - across * crop, fields * (16 * blocks[1] - down * crop))
    unit = written(profile, level, chroma, depth, blocks, crop, progressive)
    assert sequence_of(unit) == Sequence(profile, level, chroma, depth, *size, progressive)


@given(st.binary(max_size=60))
def test_hostile_parameter_sets_end_in_a_named_error(data: bytes) -> None:
    with contextlib.suppress(NotIsoBmff):
        sequence_of(b"\x67" + data)
    with contextlib.suppress(NotIsoBmff):
        configuration_of(b"\x01" + data)
    with contextlib.suppress(NotIsoBmff):
        opening(data)


def test_a_header_that_says_another_profile_than_its_parameter_set_is_not_believed() -> None:
    unit = written(100, 31, 1, 8, (40, 23), 0, True)
    honest = b"\x01" + unit[1:4] + b"\xff\xe1" + len(unit).to_bytes(2, "big") + unit
    assert configuration_of(honest).codecs == "avc1.64001f"
    with pytest.raises(NotIsoBmff, match="avcC says 42001f"):
        configuration_of(honest[:1] + b"\x42" + honest[2:])


@pytest.mark.parametrize(
    ("unit", "found"),
    [
        (b"\x65\x88", Opening.IDR),
        (b"\x61\x88", Opening.INTRA),  # first_mb 0: 1, slice_type 7: 0001000
        (b"\x61\x9a", Opening.REFRESH),  # slice_type 5, all slices P: 00110
    ],
)
def test_what_a_keyframe_begins_with(unit: bytes, found: Opening) -> None:
    message = b"\x06\x05\x01\x80"  # a unit before it that is no slice
    assert opening(b"\0\0\0\x04" + message + b"\0\0\0\x02" + unit) is found
