from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.fields import Fields, directives, end_to_end, field, merged
from headwater.rules.freshness import (
    Reuse,
    Storability,
    corrected_initial_age,
    decide_reuse,
    lifetime,
    storability,
    usable_on_error,
)
from headwater.rules.httpdate import format_http_date

NOW = 1_790_000_000.0


def fields(*lines: str) -> Fields:
    return tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))


DATE = f"Date: {format_http_date(NOW)}"


@pytest.mark.parametrize(
    ("status", "lines", "fresh_s"),
    [
        (200, ["Cache-Control: max-age=60"], 60),
        (200, ["Cache-Control: max-age=60, s-maxage=10"], 10),  # RFC 9111 5.2.2.10
        (200, ["Cache-Control: max-age=60", f"Expires: {format_http_date(NOW + 5)}"], 60),  # 5.3
        (200, [DATE, f"Expires: {format_http_date(NOW + 5)}"], 5),
        (200, [DATE, "Expires: 0"], 0),  # 5.3: an invalid date is past
        (200, ["Cache-Control: no-cache, max-age=60"], 0),
        (200, ["Cache-Control: max-age=abc"], 0),  # 4.2.1
        (200, ["Cache-Control: max-age=-1"], 0),
        (200, ['Cache-Control: max-age="60"'], 60),
        (200, ["Cache-Control: max-age=60, max-age=10"], 60),
        (200, ["Cache-Control: max-age=99999999999999999999"], 2**31),
        (200, [f"Last-Modified: {format_http_date(NOW - 1000)}"], 100),  # 4.2.2
        (200, [], 0),
        (404, [], 1.5),
        (410, [f"Last-Modified: {format_http_date(NOW - 1000)}"], 100),
        (200, ["CDN-Cache-Control: max-age=9", "Cache-Control: max-age=60"], 9),
        (200, ["CDN-Cache-Control: max-age=9", DATE, f"Expires: {format_http_date(NOW + 5)}"], 9),
        (200, ["CDN-Cache-Control: max-age=9.0", "Cache-Control: max-age=60"], 0),  # RFC 9213 2.2: wrong type
        (404, ["Cache-Control: max-age=7"], 7),
        (500, [f"Last-Modified: {format_http_date(NOW - 1000)}"], 0),
    ],
)
def test_the_lifetime_of_a_response(status: int, lines: list[str], fresh_s: float) -> None:
    assert lifetime(status, fields(*lines), 1.5, NOW).fresh_s == fresh_s


@pytest.mark.parametrize(
    ("status", "lines", "expected"),
    [
        (200, ["Cache-Control: max-age=60"], Storability.STORABLE),
        (200, ['ETag: "a"'], Storability.STORABLE),
        (200, ["Cache-Control: no-store, max-age=60"], Storability.NO_STORE),
        (200, ["Cache-Control: private"], Storability.PRIVATE),
        (200, ["Cache-Control: max-age=60", "Vary: Cookie"], Storability.STORABLE),
        (200, ["Cache-Control: max-age=60", "Vary: Cookie, *"], Storability.VARY),
        (200, [], Storability.NO_LIFETIME),
        (404, [], Storability.STORABLE),
        (206, ["Cache-Control: max-age=60"], Storability.STATUS),
        (599, ["Cache-Control: max-age=60"], Storability.STORABLE),
        (599, ["Cache-Control: max-age=60, must-understand, no-store"], Storability.STATUS),  # 5.2.2.3
        (404, ["Cache-Control: max-age=60, must-understand, no-store"], Storability.STORABLE),
        (200, ['Cache-Control: max-age=60, private="X-Mine"'], Storability.STORABLE),
        (200, ["CDN-Cache-Control: max-age=60", "Cache-Control: no-store"], Storability.STORABLE),  # RFC 9213 2.1
        (200, ["CDN-Cache-Control: no-store", "Cache-Control: max-age=60"], Storability.NO_STORE),
        (200, ["CDN-Cache-Control: max-age=", "Cache-Control: no-store"], Storability.NO_STORE),  # not a dictionary
    ],
)
def test_what_a_shared_cache_may_keep(status: int, lines: list[str], expected: Storability) -> None:
    assert storability(status, fields(*lines), 1.0, NOW) is expected


@pytest.mark.parametrize(
    ("control", "age_s", "expected"),
    [
        ("max-age=60", 59.9, Reuse.FRESH),
        ("max-age=60", 60, Reuse.REVALIDATE),
        ("max-age=60, stale-while-revalidate=10", 69, Reuse.STALE_WHILE_REVALIDATE),
        ("max-age=60, stale-while-revalidate=10", 70, Reuse.REVALIDATE),
        ("max-age=60, stale-while-revalidate=10, must-revalidate", 61, Reuse.REVALIDATE),
    ],
)
def test_what_a_stored_response_is_good_for(control: str, age_s: float, expected: Reuse) -> None:
    assert decide_reuse(lifetime(200, fields(f"Cache-Control: {control}"), 1, NOW), age_s) is expected


@pytest.mark.parametrize(
    ("control", "age_s", "usable"),
    [
        ("max-age=60, stale-if-error=100", 159, True),
        ("max-age=60, stale-if-error=100", 160, False),
        ("max-age=60, stale-if-error=100, must-revalidate", 61, False),
        ("max-age=60", 61, False),
    ],
)
def test_what_may_stand_in_on_error(control: str, age_s: float, usable: bool) -> None:
    assert usable_on_error(lifetime(200, fields(f"Cache-Control: {control}"), 1, NOW), age_s) is usable


@pytest.mark.parametrize(
    ("lines", "age_s"),
    [([], 2), (["Age: 7"], 9), ([f"Date: {format_http_date(NOW - 30)}"], 30), (["Age: soon"], 2), (["Age: 7, 9"], 9)],
)
def test_the_age_on_arrival(lines: list[str], age_s: float) -> None:
    assert corrected_initial_age(fields(*lines), NOW - 2, NOW) == age_s


def test_hop_by_hop_fields_are_not_passed_on() -> None:
    received = fields("Connection: close, X-Mine", "X-Mine: 1", "Keep-Alive: 1", "ETag: 2", "Transfer-Encoding: chunked")
    assert end_to_end(received) == (("ETag", "2"),)


def test_a_304_replaces_fields_but_not_those_of_the_body() -> None:
    stored = fields("ETag: 1", "Content-Type: a/b", "Cache-Control: max-age=1", "X: y")
    newer = fields("Cache-Control: max-age=9", "Content-Type: c/d", "Connection: close")
    assert dict(merged(stored, newer)) == {"ETag": "1", "Content-Type": "a/b", "X": "y", "Cache-Control": "max-age=9"}


def test_lines_of_one_name_are_combined() -> None:
    assert field((("a", "1"), ("B", "x"), ("A", " 2")), "a") == "1, 2"


def test_quoted_commas_do_not_split_a_list() -> None:
    assert directives('a="x, y", b, C=1') == {"a": "x, y", "b": None, "c": "1"}


@given(st.text(max_size=60))
def test_any_text_is_a_list_of_directives(text: str) -> None:
    assert all(name == name.lower() for name in directives(text))
