from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.ranges import (
    Selection,
    Several,
    Single,
    Unsatisfiable,
    Whole,
    parse_content_range,
    parse_range,
)

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Whole()),
        ("bytes=0-0", Single(0, 0)),
        ("bytes=0-", Single(0, 999)),
        ("bytes=500-600", Single(500, 600)),
        ("bytes=500-5000", Single(500, 999)),  # RFC 9110 14.1.2: a last beyond the end means the end
        ("bytes=-1", Single(999, 999)),
        ("bytes=-5000", Single(0, 999)),  # a suffix longer than the object is the object
        ("bytes=-0", Unsatisfiable()),
        ("bytes=1000-", Unsatisfiable()),
        ("bytes=1000-2000, 3000-", Unsatisfiable()),
        ("bytes=0-1, 1000-", Single(0, 1)),  # those that exist are sent
        ("bytes=0-1,5-6", Several((Single(0, 1), Single(5, 6)))),
        ("bytes=5-6,0-1", Several((Single(5, 6), Single(0, 1)))),
        ("bytes=0-1,2-3", Single(0, 3)),
        ("bytes=0-10,5-20,-1", Several((Single(0, 20), Single(999, 999)))),
        ("BYTES=0-1", Single(0, 1)),  # unit names are case-insensitive
        ("bytes= 0-1 , ,5-6 ", Several((Single(0, 1), Single(5, 6)))),
        ("bytes=5-4", Whole()),  # 14.1.1: invalid, so ignored
        ("bytes=a-b", Whole()),
        ("bytes=", Whole()),
        ("bytes=-", Whole()),
        ("bytes=1", Whole()),
        ("bytes=0-1-2", Whole()),
        ("items=0-1", Whole()),
        ("bytes=" + ",".join(f"{n * 10}-{n * 10}" for n in range(17)), Whole()),  # over the cap
        ("bytes=99999999999999999999-", Whole()),
    ],
)
def test_a_range_header_selects(header: str | None, expected: Selection) -> None:
    assert parse_range(header, SIZE) == expected


def test_an_empty_object_satisfies_no_range() -> None:
    assert parse_range("bytes=0-", 0) == Unsatisfiable()
    assert parse_range("bytes=-5", 0) == Unsatisfiable()


@given(st.text(max_size=60) | st.from_regex(r"bytes=(\d{0,4}-\d{0,4},?){0,6}", fullmatch=True), st.integers(0, 2000))
def test_a_selection_never_exceeds_the_object_nor_overlaps(header: str, size: int) -> None:
    selection = parse_range(header, size)
    parts = selection.parts if isinstance(selection, Several) else (selection,) if isinstance(selection, Single) else ()
    covered = [byte for part in parts for byte in range(part.first, part.last + 1)]
    assert all(0 <= byte < size for byte in covered)
    assert len(covered) == len(set(covered))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-9/10", (Single(0, 9), 10)),
        ("bytes 5-9/*", (Single(5, 9), None)),
        ("bytes 5-10/10", None),
        ("bytes 9-5/10", None),
        ("bytes */10", None),
        (None, None),
    ],
)
def test_a_content_range_is_read(header: str | None, expected: tuple[Single, int | None] | None) -> None:
    assert parse_content_range(header) == expected
