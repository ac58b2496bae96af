"""Uses of one key that are noted together weigh what they weigh one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.eviction import Ranking

BUDGET = 1000


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60), st.integers(1, 9)), max_size=80))
def test_uses_noted_together_leave_the_same_ranking(steps: list[tuple[int, int, int]]) -> None:
    one_by_one: Ranking[int] = Ranking(BUDGET)
    together: Ranking[int] = Ranking(BUDGET)
    for key, size, uses in steps:
        for ranking in (one_by_one, together):
            if key not in ranking:
                while ranking.used + size > BUDGET:
                    victim = ranking.victim()
                    assert victim is not None
                    ranking.remove(victim)
                ranking.add(key, size)
        for _ in range(uses):
            one_by_one.touch(key)
        assert together.touch(key, uses)
        assert list(one_by_one._keys) == list(together._keys)
        for ours, theirs in zip(one_by_one._weights, together._weights, strict=True):
            assert list(ours) == pytest.approx(list(theirs), abs=1e-4)  # kept in four bytes
        assert one_by_one._hits == pytest.approx(together._hits)


def test_a_key_that_is_not_there_is_not_used() -> None:
    assert not Ranking[int](BUDGET).touch(1, 5)
