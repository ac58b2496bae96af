"""Which rung is fetched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.abr import SAFETY, Throughput, choose_rung

LADDER = [400_000, 900_000, 1_600_000, 3_500_000, 6_500_000]


@pytest.mark.parametrize(
    ("estimate_bps", "buffer_s", "current", "chosen"),
    [
        (100_000, 0, None, 0),
        (1_200_000, 0, None, 1),
        (1_100_000, 0, None, 0),
        (100_000_000, 0, None, 4),
        (100_000_000, 3.9, 1, 1),
        (100_000_000, 4.0, 1, 4),
        (500_000, 10, 4, 0),
        (500_000, 0, 4, 0),
    ],
)
def test_the_best_affordable_rung_is_taken_but_no_step_up_on_a_thin_buffer(
    estimate_bps: float, buffer_s: float, current: int | None, chosen: int
) -> None:
    assert choose_rung(LADDER, estimate_bps, buffer_s, current) == chosen


def test_the_first_estimate_holds_until_something_was_measured() -> None:
    assert Throughput(3e6).estimate_bps() == 3e6
    assert Throughput(3e6).after(0, 1.0).estimate_bps() == 3e6
    assert Throughput(3e6).after(125_000, 1.0).estimate_bps() == pytest.approx(1e6)


def test_a_worse_line_is_believed_sooner_than_a_better_one() -> None:
    steady = Throughput(1e6)
    for _ in range(20):
        steady = steady.after(125_000, 1.0)
    worse, better = steady.after(12_500, 1.0), steady.after(1_250_000, 1.0)
    assert worse.estimate_bps() < 0.75e6
    assert better.estimate_bps() < 2.5e6


@given(st.lists(st.tuples(st.integers(1, 10**8), st.floats(1e-4, 100)), min_size=1, max_size=30))
def test_the_estimate_stays_between_the_worst_and_the_best_sample(samples: list[tuple[int, float]]) -> None:
    throughput = Throughput(1.0)
    for size_bytes, took_s in samples:
        throughput = throughput.after(size_bytes, took_s)
    rates = [size_bytes * 8 / took_s for size_bytes, took_s in samples]
    assert min(rates) * 0.999 <= throughput.estimate_bps() <= max(rates) * 1.001


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=8).map(sorted), st.floats(0, 1e9), st.floats(0, 60))
def test_a_rung_chosen_is_affordable_or_the_lowest(ladder: list[int], estimate_bps: float, buffer_s: float) -> None:
    chosen = choose_rung(ladder, estimate_bps, buffer_s, None)
    assert chosen == 0 or ladder[chosen] <= estimate_bps * SAFETY
