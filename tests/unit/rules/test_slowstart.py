"""Slow start: the part of a weight that counts after a return."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.slowstart import ramp


@pytest.mark.parametrize(
    ("after_s", "part"), [(-5, 0.125), (0, 0.125), (9.9, 0.125), (10, 0.25), (45, 0.625), (79.9, 1.0), (80, 1.0), (999, 1.0)]
)
def test_the_part_grows_by_eighths_over_the_set_time(after_s: float, part: float) -> None:
    assert ramp(1000.0, 1000.0 + after_s, 80) == part


def test_who_never_left_and_who_is_not_to_wait_count_whole() -> None:
    assert ramp(None, 1000.0, 80) == ramp(1000.0, 1000.0, 0) == 1.0


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.1, 1e4))
def test_it_never_falls_and_is_never_nothing(early: float, late: float, over_s: float) -> None:
    early, late = sorted((early, late))
    assert 0 < ramp(0.0, early, over_s) <= ramp(0.0, late, over_s) <= 1
