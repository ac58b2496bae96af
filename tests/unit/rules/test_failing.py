"""Whose requests fail, compared with the others'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.failing import LEAST_REQUESTS, Tally, failing

TALLIES = st.dictionaries(
    st.sampled_from("abcdef"), st.integers(0, 200).flatmap(lambda n: st.builds(Tally, st.just(n), st.integers(0, n)))
)


@pytest.mark.parametrize(
    ("tallies", "named", "why"),
    [
        ({"a": Tally(100, 60), "b": Tally(100, 0), "c": Tally(100, 2)}, {"a"}, "it fails, the others do not"),
        ({"a": Tally(100, 60), "b": Tally(100, 55), "c": Tally(100, 70)}, set(), "all fail: what stands behind them does"),
        ({"a": Tally(100, 60)}, set(), "nobody to compare with"),
        ({"a": Tally(100, 60), "b": Tally(3, 0)}, set(), "too little is known of the other"),
        ({"a": Tally(LEAST_REQUESTS - 1, 19), "b": Tally(100, 0)}, set(), "too little is known of it"),
        ({"a": Tally(100, 10), "b": Tally(100, 0)}, set(), "a few failures are no illness"),
    ],
)
def test_who_is_named(tallies: dict[str, Tally], named: set[str], why: str) -> None:
    assert set(failing(tallies)) == named, why


@given(TALLIES)
def test_never_more_than_half_of_those_who_are_judged_are_named(tallies: dict[str, Tally]) -> None:
    judged = [tally for tally in tallies.values() if tally.requests >= LEAST_REQUESTS]
    assert 2 * len(failing(tallies)) <= max(len(judged), 0)


@given(TALLIES)
def test_one_more_failure_never_clears_the_name_of_who_failed(tallies: dict[str, Tally]) -> None:
    for name in failing(tallies):
        tally = tallies[name]
        if tally.failed < tally.requests:
            assert name in failing(tallies | {name: Tally(tally.requests, tally.failed + 1)})
