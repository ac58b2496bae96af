"""Reading AV1: av1C and sequence headers as SVT-AV1 4.2 and libaom write them, and what is no key frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.transcode.media.av1 import begins_with_key_frame, configuration_of, sequence_of, units
from origin.transcode.media.isobmff import NotIsoBmff

# 426x240, 24/s, main profile, level 2.0, 8 bit: of an SVT-AV1 stream in an MP4 of ffmpeg 9.
SVT = bytes.fromhex("81000c000a0b0200000521f53de017c002")
KEY = bytes.fromhex("0a0b02000005") + bytes.fromhex("21f53de017c002") + bytes([0x32, 2, 0b0001_0000, 0])


def test_an_av1c_gives_size_and_codecs_of_its_sequence_header() -> None:
    configuration = configuration_of(SVT)
    assert configuration.sequence.codecs == "av01.0.00M.08"
    assert (configuration.sequence.width, configuration.sequence.height) == (426, 240)
    assert configuration.sequence.chroma_420


def test_an_av1c_that_contradicts_its_sequence_header_is_refused() -> None:
    with pytest.raises(NotIsoBmff, match="says"):
        configuration_of(SVT[:1] + b"\x05" + SVT[2:])
    with pytest.raises(NotIsoBmff, match="no sequence header"):
        configuration_of(SVT[:4] + b"\x12\x00")


def test_a_shown_key_frame_begins_a_segment_and_nothing_else_does() -> None:
    configuration = configuration_of(SVT)
    assert begins_with_key_frame(KEY, configuration)
    for first_byte in (0b0000_0000, 0b0011_0000, 0b1000_0000):  # not shown; an inter frame; one shown again
        assert not begins_with_key_frame(KEY[:-2] + bytes([first_byte, 0]), configuration)
    with pytest.raises(NotIsoBmff, match="not the one of the av1C"):
        begins_with_key_frame(KEY.replace(b"\x21\xf5", b"\x21\xf4"), configuration)
    with pytest.raises(NotIsoBmff, match="no frame"):
        begins_with_key_frame(KEY[:13], configuration)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    for read in (configuration_of, sequence_of, lambda sample: begins_with_key_frame(sample, configuration_of(SVT))):
        try:
            read(data)
        except NotIsoBmff:
            continue


@given(st.lists(st.tuples(st.integers(0, 15), st.binary(max_size=200)), max_size=5))
def test_units_come_back_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    def sized(kind: int, body: bytes) -> bytes:
        low, high = len(body) & 0x7F, len(body) >> 7
        return bytes([kind << 3 | 2, *([low | 0x80, high] if high else [low])]) + body

    assert list(units(b"".join(sized(*unit) for unit in written))) == written
