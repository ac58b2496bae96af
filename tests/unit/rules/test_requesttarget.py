from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.requesttarget import BadTarget, Target, TargetRefusal, parse_target


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/", Target("/", "")),
        ("/videos/a/b.m4s?grant=x", Target("/videos/a/b.m4s", "grant=x")),
        ("/%61%7E", Target("/a~", "")),  # RFC 3986 6.2.2.2
        ("/a%3ab", Target("/a%3Ab", "")),  # 6.2.2.1
        ("/a/", Target("/a/", "")),
        ("/a?b?c", Target("/a", "b?c")),
    ],
)
def test_one_spelling_per_object(raw: str, expected: Target) -> None:
    assert parse_target(raw) == expected


@pytest.mark.parametrize(
    ("raw", "refusal"),
    [
        ("", TargetRefusal.NOT_A_PATH),
        ("*", TargetRefusal.NOT_A_PATH),
        ("http://host/a", TargetRefusal.NOT_A_PATH),
        ("/..", TargetRefusal.DOT_SEGMENT),
        ("/a/./b", TargetRefusal.DOT_SEGMENT),
        ("/%2E%2e/b", TargetRefusal.DOT_SEGMENT),
        ("/a%2fb", TargetRefusal.BAD_ESCAPE),
        ("/a%5Cb", TargetRefusal.BAD_ESCAPE),
        ("/a%00", TargetRefusal.BAD_ESCAPE),
        ("/a%0d%0a", TargetRefusal.BAD_ESCAPE),
        ("/a%zz", TargetRefusal.BAD_ESCAPE),
        ("/a%4", TargetRefusal.BAD_ESCAPE),
        ("/a\\b", TargetRefusal.BAD_CHARACTER),
        ("/a b", TargetRefusal.BAD_CHARACTER),
        ("/ä", TargetRefusal.BAD_CHARACTER),
        ("/a?\x00", TargetRefusal.BAD_CHARACTER),
        ("//a", TargetRefusal.EMPTY_SEGMENT),
        ("/a//b", TargetRefusal.EMPTY_SEGMENT),
        ("/" + "a" * 4096, TargetRefusal.TOO_LONG),
    ],
)
def test_what_two_hops_could_read_differently_is_refused(raw: str, refusal: TargetRefusal) -> None:
    with pytest.raises(BadTarget) as caught:
        parse_target(raw)
    assert caught.value.refusal is refusal


@given(st.text(max_size=40).map("/".__add__) | st.from_regex(r"/([a-z%./]|%[0-9a-f]{2}){0,20}", fullmatch=True))
def test_a_normal_target_stays_itself(raw: str) -> None:
    try:
        once = parse_target(raw)
    except BadTarget:
        return
    assert parse_target(once.path) == Target(once.path, "")
    assert ".." not in once.path.split("/")
