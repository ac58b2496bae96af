"""The three memories of a store: what each is for, and that the one that suits the traffic chooses the victims."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.eviction import LONG, MEMORIES, Memory, Ranking

BUDGET = 800
ENDLESS = 1e9  # turnovers, more than any test has


def hit_ratio(ranking: Ranking[int], keys: Iterable[int]) -> float:
    """Of keys that each take one unit, asked for in this order."""
    asked = hits = 0
    for key in keys:
        asked += 1
        if ranking.touch(key):
            hits += 1
            continue
        if ranking.used == BUDGET:
            victim = ranking.victim()
            assert victim is not None
            ranking.remove(victim)
        ranking.add(key, 1)
    return hits / asked


def loop(length: int, rounds: int, first: int = 0) -> Iterator[int]:
    return (first + at for _ in range(rounds) for at in range(length))


def fashions(count: int, seed: int) -> Iterator[int]:
    """Each key is asked for ten times within half a turnover of its first use, and then never again."""
    draw = random.Random(seed)
    return (max(0, number // 10 - int(draw.random() * BUDGET / 2)) for number in range(count))


def favourites(count: int, seed: int) -> Iterator[int]:
    """Ten times as many keys as fit; the most popular hundredth has a good third of all requests."""
    draw = random.Random(seed)
    return (int(10 * BUDGET * draw.random() ** 4) for _ in range(count))


def test_a_loop_longer_than_the_store_hits_what_the_store_can_hold_of_it() -> None:
    asked = loop(2 * BUDGET, rounds=10)
    assert hit_ratio(Ranking(BUDGET), asked) > 0.3  # of at most 0.46; it was 0


def test_a_loop_hits_after_other_traffic_too() -> None:
    ranking: Ranking[int] = Ranking(BUDGET)
    hit_ratio(ranking, favourites(15_000, seed=1))
    assert hit_ratio(ranking, loop(2 * BUDGET, rounds=20, first=10**6)) > 0.2


def test_what_is_forgotten_within_half_a_turnover_leaves_room_for_what_is_new() -> None:
    hits = hit_ratio(Ranking(BUDGET), fashions(25_000, seed=1))
    longer = hit_ratio(Ranking(BUDGET, tuple(memory for memory in MEMORIES if memory.half_life > 1)), fashions(25_000, seed=1))
    assert hits > 1.02 * longer


@pytest.mark.parametrize("traffic", [favourites, fashions])
def test_the_memories_together_are_hardly_worse_than_the_best_of_them(traffic: Callable[[int, int], Iterator[int]]) -> None:
    best = max(hit_ratio(Ranking(BUDGET, (memory,)), traffic(20_000, 2)) for memory in MEMORIES)
    assert hit_ratio(Ranking(BUDGET), traffic(20_000, 2)) > 0.97 * best


def test_what_came_first_gives_way_in_the_next_era() -> None:
    of_eight, endless = (Ranking[int](BUDGET, (Memory(0.25, era=era),)) for era in (8.0, ENDLESS))
    newcomers = list(loop(BUDGET // 2, rounds=1))
    for ranking in (of_eight, endless):
        hit_ratio(ranking, (-1 - number // 2 for number in range(4 * BUDGET)))
        assert hit_ratio(ranking, newcomers * 5) < 0.1
        hit_ratio(ranking, newcomers * 10)
    assert hit_ratio(endless, newcomers) < 0.3
    assert hit_ratio(of_eight, newcomers) > 0.8


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_later_use_counts_more_where_there_are_no_eras(one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    assert Memory(2.0).credit(earlier) <= Memory(2.0).credit(later)


@given(st.integers(0, 1000), st.floats(0, 255), st.floats(0, 255))
def test_a_later_use_counts_less_within_an_era_and_more_in_the_next(era: int, one: float, other: float) -> None:
    earlier, later = (LONG.era * era + at for at in sorted((one, other)))
    assert LONG.credit(earlier) >= LONG.credit(later)
    assert LONG.credit(later + LONG.era) == pytest.approx(LONG.credit(later) + LONG.era / LONG.half_life)
    assert LONG.credit(LONG.era * (era + 1)) > LONG.credit(earlier)
