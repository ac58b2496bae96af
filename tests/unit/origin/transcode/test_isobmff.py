"""Boxes, samples and headers, written and read back."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.transcode.media.initsegment import canonical_init, timescale
from origin.transcode.media.isobmff import (
    DEPENDENT_FLAGS,
    SYNC_FLAGS,
    NotIsoBmff,
    Sample,
    box,
    boxes,
    encode_segment,
    find,
    full_box,
    read_samples,
    segment_facts,
    top_level,
)

samples = st.builds(
    Sample,
    duration=st.integers(0, 2**32 - 1),
    flags=st.sampled_from([SYNC_FLAGS, DEPENDENT_FLAGS]),
    offset=st.integers(-(2**31), 2**31 - 1),
    data=st.binary(max_size=64),
)


@given(st.integers(0, 2**64 - 1), st.lists(samples, min_size=1, max_size=20), st.integers(0, 99999))
def test_a_segment_reads_back_as_it_was_written(decode_time: int, written: list[Sample], number: int) -> None:
    data = encode_segment(number, decode_time, written)
    assert list(read_samples(io.BytesIO(data))) == written
    facts, first = segment_facts(data)
    assert facts.decode_time == decode_time
    assert facts.duration == sum(sample.duration for sample in written)
    assert facts.starts_with_sync == written[0].sync
    assert facts.samples == len(written)
    assert facts.syncs == tuple(place for place, sample in enumerate(written) if sample.sync)
    assert first == written[0].data
    assert data[: facts.first_end].endswith(first)


@given(st.lists(samples, min_size=1, max_size=3), st.data())
def test_a_segment_that_is_cut_anywhere_is_never_taken_for_a_whole_one(written: list[Sample], drawn: st.DataObject) -> None:
    data = encode_segment(0, 0, written)
    cut = drawn.draw(st.integers(0, len(data) - 1))
    with pytest.raises(NotIsoBmff):
        segment_facts(data[:cut])


@given(st.binary(max_size=200))
def test_hostile_bytes_end_in_a_named_error_or_in_boxes_within_them(data: bytes) -> None:
    with contextlib.suppress(NotIsoBmff):
        assert sum(len(found.payload) + 8 for found in boxes(data)) <= len(data)
    assert all(at + size <= len(data) for _, at, size in top_level(io.BytesIO(data)))


def test_top_level_stops_at_a_box_that_is_cut_off() -> None:
    file = io.BytesIO(box(b"ftyp", b"isom") + box(b"moov", bytes(100))[:-1])
    assert [kind for kind, _, _ in top_level(file)] == [b"ftyp"]


def _moov(creation: int, duration: int) -> bytes:
    mvhd = full_box(b"mvhd", 0, 0, struct.pack(">IIII", creation, creation, 1000, duration), bytes(80))
    tkhd = full_box(b"tkhd", 0, 3, struct.pack(">IIIII", creation, creation, 1, 0, duration), bytes(60))
    mdhd = full_box(b"mdhd", 0, 0, struct.pack(">IIII", 0, 0, 24000, 0), bytes(4))
    mehd = full_box(b"mehd", 0, 0, struct.pack(">I", duration))
    trex = full_box(b"trex", 0, 0, bytes(20))
    return mvhd + box(b"trak", tkhd, box(b"mdia", mdhd)) + box(b"mvex", mehd, trex) + box(b"udta", b"writer's name")


def test_headers_of_two_ranges_become_one_and_the_same() -> None:
    assert canonical_init(_moov(1, 4000), 2002) == canonical_init(_moov(77, 16000), 2002)


def test_a_header_takes_back_the_delay_and_keeps_the_clock() -> None:
    init = canonical_init(_moov(1, 4000), 2002)
    moov = find(init, b"moov")
    assert timescale(moov) == 24000
    assert find(moov, b"trak", b"edts", b"elst")[8:] == struct.pack(">IiI", 0, 2002, 0x10000)
    assert [child.kind for child in boxes(find(moov, b"mvex"))] == [b"trex"]


def test_a_header_without_delay_has_no_edit_list() -> None:
    trak = find(canonical_init(_moov(1, 4000), 0), b"moov", b"trak")
    assert b"edts" not in [child.kind for child in boxes(trak)]
