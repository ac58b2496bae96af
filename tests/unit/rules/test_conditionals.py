from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.conditionals import Verdict, evaluate, if_range_holds, parse_etags
from headwater.rules.httpdate import format_http_date, parse_http_date

JAN = "Thu, 01 Jan 2026 00:00:00 GMT"
FEB = "Sun, 01 Feb 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, Verdict.PROCEED),
        ({"if_none_match": '"a"'}, Verdict.NOT_MODIFIED),
        ({"if_none_match": 'W/"a"'}, Verdict.NOT_MODIFIED),  # 13.1.2: weak comparison
        ({"if_none_match": '"b", "a"'}, Verdict.NOT_MODIFIED),
        ({"if_none_match": "*"}, Verdict.NOT_MODIFIED),
        ({"if_none_match": '"b"'}, Verdict.PROCEED),
        ({"if_none_match": "a"}, Verdict.PROCEED),  # no entity tag
        ({"if_none_match": '"b"', "if_modified_since": FEB}, Verdict.PROCEED),  # 13.1.3: the tag wins
        ({"if_modified_since": JAN}, Verdict.NOT_MODIFIED),
        ({"if_modified_since": FEB}, Verdict.NOT_MODIFIED),
        ({"if_modified_since": "Wed, 31 Dec 2025 23:59:59 GMT"}, Verdict.PROCEED),
        ({"if_modified_since": "yesterday"}, Verdict.PROCEED),
        ({"if_match": '"a"'}, Verdict.PROCEED),
        ({"if_match": 'W/"a"'}, Verdict.PRECONDITION_FAILED),  # 13.1.1: strong comparison
        ({"if_match": "*"}, Verdict.PROCEED),
        ({"if_match": '"b"'}, Verdict.PRECONDITION_FAILED),
        ({"if_unmodified_since": "Wed, 31 Dec 2025 23:59:59 GMT"}, Verdict.PRECONDITION_FAILED),
        ({"if_unmodified_since": JAN}, Verdict.PROCEED),
        ({"if_match": '"a"', "if_none_match": '"a"'}, Verdict.NOT_MODIFIED),
    ],
)
def test_preconditions_are_decided_in_the_order_of_rfc_9110(conditions: dict[str, str], expected: Verdict) -> None:
    assert evaluate("GET", '"a"', JAN, **conditions) is expected  # type: ignore[arg-type]


def test_a_write_that_would_repeat_fails_instead_of_not_modified() -> None:
    assert evaluate("PUT", '"a"', JAN, if_none_match="*") is Verdict.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("if_range", "holds"),
    [
        (None, True),
        ('"a"', True),
        ('W/"a"', False),
        ('"b"', False),
        (JAN, True),
        (FEB, False),
        ("nonsense", False),
    ],
)
def test_if_range_needs_the_same_strong_validator(if_range: str | None, holds: bool) -> None:
    assert if_range_holds(if_range, '"a"', JAN) is holds


def test_if_range_with_a_date_that_is_not_strong_is_refused() -> None:
    assert not if_range_holds(JAN, None, JAN, date="Thu, 01 Jan 2026 00:00:30 GMT")


def test_weak_tags_never_hold_for_if_range() -> None:
    assert not if_range_holds('W/"a"', 'W/"a"', None)


@given(st.text(max_size=40))
def test_any_text_is_a_list_of_tags_or_none(text: str) -> None:
    tags = parse_etags(text)
    assert tags is None or all(tag.endswith('"') for tag in tags)


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_the_three_date_forms_are_one_moment(text: str) -> None:
    assert parse_http_date(text, now=1_790_000_000) == 784111777.0


@given(st.integers(0, 4_000_000_000))
def test_dates_survive_a_round_trip(seconds: int) -> None:
    assert parse_http_date(format_http_date(seconds)) == seconds


@pytest.mark.parametrize("text", [None, "", "Sun, 31 Feb 2026 00:00:00 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "0", "-1"])
def test_other_texts_are_no_dates(text: str | None) -> None:
    assert parse_http_date(text) is None
