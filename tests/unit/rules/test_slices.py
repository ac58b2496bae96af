"""The plan of slices: a range gets exactly its bytes, little is fetched ahead, and versions never share a key."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.fill import (
    Announce,
    Ask,
    BodyEnded,
    BytesArrived,
    End,
    FillCommand,
    FillEvent,
    FillMachine,
    FillState,
    FillTrouble,
    FollowersGone,
    HeaderArrived,
    ParentFailed,
)
from headwater.rules.ranges import Single, parse_specs
from headwater.rules.slices import (
    SlicePolicy,
    Version,
    WantedSlice,
    begins_slices,
    fetched_ahead,
    pieces,
    probe,
    slice_count,
    slice_key,
    slice_span,
)

POLICY = SlicePolicy(above=100, size=10, ahead=3)


@given(st.integers(1, 50), st.integers(0, 500), st.integers(0, 500))
def test_the_pieces_of_a_range_are_its_bytes_in_order_each_inside_one_slice(size: int, one: int, other: int) -> None:
    first, last = sorted((one, other))
    position = first
    for index, span in pieces(first, last, size):
        assert span.first == position
        assert index == span.first // size == span.last // size
        position = span.last + 1
    assert position == last + 1


@given(st.integers(1, 50), st.integers(1, 500))
def test_the_slices_of_an_object_are_aligned_and_cover_it(size: int, total: int) -> None:
    spans = [slice_span(index, size, total) for index in range(slice_count(size, total))]
    assert spans[0].first == 0
    assert spans[-1].last == total - 1
    assert all(later.first == earlier.last + 1 for earlier, later in pairwise(spans))
    assert all(span.first % size == 0 for span in spans)
    assert all(span.length == size for span in spans[:-1])


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 32))
def test_what_is_fetched_ahead_follows_lies_in_the_range_and_is_bounded(index: int, more: int, sent: int, ahead: int) -> None:
    fetched = fetched_ahead(index, index + more, sent, ahead)
    assert list(fetched) == list(range(index + 1, index + 1 + len(fetched)))
    assert len(fetched) == min(more, ahead, max(1, 2 * sent))


versions = st.builds(Version, st.sampled_from(['"a"', '"b"', '"a 1"']), st.integers(1, 20))


@given(versions, versions, st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3))
def test_two_slices_share_a_key_only_when_they_are_the_same(
    one: Version, other: Version, size: int, other_size: int, index: int, other_index: int
) -> None:
    same = (one, size, index) == (other, other_size, other_index)
    assert (slice_key("k", one, size, index) == slice_key("k", other, other_size, other_index)) == same


PROBES = [
    ("bytes=0-5", Single(0, 9)),
    ("bytes=25-95", Single(20, 29)),
    ("bytes=30-", Single(30, 39)),
    ("bytes=-5", Single(0, 9)),
    ("bytes=45-46, 0-1", Single(40, 49)),
    ("bytes=x", None),
    (None, None),
]


@pytest.mark.parametrize(("asked", "probed"), PROBES)
def test_the_slice_in_which_a_range_begins_is_asked_for_first(asked: str | None, probed: Single | None) -> None:
    assert probe(POLICY, parse_specs(asked)) == probed


ANSWERS = [
    (None, 200, None, 101, True),
    (None, 200, None, 100, False),
    (None, 200, None, None, False),
    (Single(20, 29), 206, Single(20, 29), 50, True),
    (Single(20, 29), 206, Single(20, 24), 25, True),
    (Single(0, 9), 206, Single(0, 8), 9, False),  # all there is
    (Single(20, 29), 206, Single(21, 29), 50, False),  # another part than was asked for
    (Single(20, 29), 206, Single(20, 24), 50, False),
    (Single(20, 29), 206, Single(20, 29), None, False),
    (Single(20, 29), 200, None, 50, False),
    (None, 206, Single(0, 9), 500, False),
    (None, 404, None, 500, False),
]


@pytest.mark.parametrize(("asked", "status", "part", "size", "expected"), ANSWERS)
def test_an_answer_shows_whether_the_object_is_kept_in_slices(
    asked: Single | None, status: int, part: Single | None, size: int | None, expected: bool
) -> None:
    assert begins_slices(POLICY, asked, status, part, size) is expected


# -- the fill of one slice --------------------------------------------------------------------------------------------

WANTED = WantedSlice(Version('"v1"', 35), Single(10, 19))


def answer(first: int, last: int = 19, etag: str = '"v1"', size: int = 35) -> HeaderArrived:
    return HeaderArrived(206, etag, size, part=Single(first, last))


def slice_fill() -> FillMachine:
    return FillMachine(("a", "b"), 0.5, wanted=WANTED)


def test_a_slice_is_asked_for_by_its_bytes_and_resumed_inside_them() -> None:
    fill = slice_fill()
    assert fill.start() == [Ask("a", 10, '"v1"', 19)]
    assert fill.on(answer(10)) == [Announce()]
    assert fill.on(BytesArrived(4)) == []
    assert fill.on(ParentFailed(FillTrouble.RESET)) == [Ask("b", 14, '"v1"', 19)]
    assert fill.on(answer(14)) == []
    assert fill.on(BytesArrived(6)) == []
    assert fill.on(BodyEnded(None)) == [End(FillState.COMPLETE)]


@pytest.mark.parametrize(("served", "commands"), [(True, []), (False, [End(FillState.CANCELLED)])])
def test_a_slice_goes_on_without_followers_where_one_had_its_part(served: bool, commands: list[FillCommand]) -> None:
    fill = slice_fill()
    fill.start()
    fill.on(answer(10))
    fill.on(BytesArrived(4))
    assert fill.on(FollowersGone(served)) == commands


OTHERS = [
    (answer(10, etag='"v2"'), FillTrouble.CHANGED, True),
    (answer(10, size=36), FillTrouble.CHANGED, True),
    (HeaderArrived(412, '"v2"', 0), FillTrouble.CHANGED, True),
    (HeaderArrived(404, None, 0), FillTrouble.CHANGED, True),
    (HeaderArrived(200, '"v2"', 35), FillTrouble.CHANGED, True),
    (HeaderArrived(200, '"v1"', 35), FillTrouble.BAD_RESPONSE, True),  # it ignores ranges
    (answer(11), FillTrouble.BAD_RESPONSE, True),
    (answer(10, last=18), FillTrouble.BAD_RESPONSE, True),  # it may give less (RFC 9110 section 15.3.7), but that makes no slices
    (HeaderArrived(304, '"v1"', 0), FillTrouble.BAD_RESPONSE, True),  # nothing that it was asked for: its slices cannot be had
    (HeaderArrived(503, None, 0), FillTrouble.SERVER_ERROR, False),
    (HeaderArrived(302, None, 0), FillTrouble.BAD_RESPONSE, False),
]


@pytest.mark.parametrize(("event", "trouble", "disproved"), OTHERS)
def test_what_is_not_the_slice_of_the_version_is_never_taken_for_it(
    event: HeaderArrived, trouble: FillTrouble, disproved: bool
) -> None:
    fill = slice_fill()
    fill.start()
    assert fill.on(event) == [Ask("b", 10, '"v1"', 19)]
    assert fill.on(event) == [End(FillState.REFUSED, trouble)]
    assert fill.disproved is disproved


def test_a_second_parent_that_still_has_the_version_is_as_good() -> None:
    fill = slice_fill()
    fill.start()
    fill.on(answer(10, etag='"v2"'))
    assert fill.on(answer(10)) == [Announce()]


EVENTS = st.one_of(
    st.builds(
        HeaderArrived,
        st.sampled_from([200, 206, 304, 404, 412, 503]),
        st.sampled_from([None, '"v1"', '"v2"', 'W/"v1"']),
        st.sampled_from([None, 35, 36]),
        part=st.none() | st.builds(Single, st.integers(8, 19), st.sampled_from([18, 19, 20])),
    ),
    st.builds(BytesArrived, st.integers(1, 6)),
    st.builds(BodyEnded, st.sampled_from([None, True, False])),
    st.builds(ParentFailed, st.sampled_from(FillTrouble)),
    st.builds(FollowersGone, st.booleans()),
)


@given(st.lists(EVENTS, max_size=40), st.integers(1, 4))
def test_a_slice_that_is_complete_has_its_bytes_of_its_version_under_any_interleaving(
    events: list[FillEvent], parents: int
) -> None:
    fill = FillMachine(tuple(f"p{n}" for n in range(parents)), 0.5, wanted=WANTED)
    fill.start()
    for event in events:
        if isinstance(event, BytesArrived) and fill.state is not FillState.RECEIVING:
            continue
        if isinstance(event, HeaderArrived) and fill.state is not FillState.ASKING:
            continue
        before = fill.received
        for command in fill.on(event):
            if isinstance(command, Ask):
                assert (command.offset, command.last, command.if_range) == (10 + fill.received, 19, '"v1"')
        if isinstance(event, HeaderArrived) and fill.state is FillState.RECEIVING:
            assert (event.etag, event.size) == ('"v1"', 35)
            assert event.part == Single(10 + before, 19)
    if fill.state is FillState.COMPLETE:
        assert fill.received == WANTED.span.length


# -- a question for a part of an unknown object -----------------------------------------------------------------------


def probing() -> FillMachine:
    fill = FillMachine(("a", "b"), 0.5, probe=Single(20, 29))
    assert fill.start() == [Ask("a", 20, None, 29)]
    return fill


def test_a_part_of_an_object_that_is_kept_in_slices_splits_the_fill() -> None:
    fill = probing()
    assert fill.on(HeaderArrived(206, '"v1"', 50, part=Single(20, 29), sliced=True)) == [End(FillState.SPLIT)]


def test_a_part_of_an_object_that_is_not_leads_to_the_whole_at_the_same_parent() -> None:
    fill = probing()
    assert fill.on(HeaderArrived(206, 'W/"v1"', 50, part=Single(20, 29))) == [Ask("a", 0, None, again=True)]
    assert fill.on(HeaderArrived(200, 'W/"v1"', 50)) == [Announce()]


def test_a_part_that_is_everything_is_the_whole() -> None:
    fill = FillMachine(("a",), 0.5, probe=Single(0, 9))
    fill.start()
    assert fill.on(HeaderArrived(206, '"v1"', 5, part=Single(0, 4))) == [Announce()]
    assert fill.on(BytesArrived(5)) == []
    assert fill.on(BodyEnded(None)) == [End(FillState.COMPLETE)]


def test_a_range_beyond_the_end_leads_to_the_beginning_and_then_to_the_whole() -> None:
    fill = probing()
    beyond = HeaderArrived(416, None, 0)
    assert fill.on(beyond) == [Ask("a", 0, None, 9, True)]
    assert fill.on(beyond) == [Ask("a", 0, None, again=True)]


def test_a_parent_that_ignores_the_range_gives_the_whole() -> None:
    fill = probing()
    assert fill.on(HeaderArrived(200, '"v1"', 50)) == [Announce()]
