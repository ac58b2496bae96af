"""Bounded loads: who passes which buckets on, by tables and by laws over any loads."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.passing import Bounds, Member, limits, passing

BOUNDS = Bounds(factor=1.25, floor=0.7, release=0.8)
NAMES = ("a", "b", "c")
BUCKETS = 12


def members(capacity: float = 100, group: str = "eu") -> list[Member]:
    return [Member(name, group, capacity) for name in NAMES]


def round_robin(bucket: int, name: str) -> Iterable[str]:
    """The next in rank are the others in turn, from another one for each bucket."""
    others = [other for other in NAMES if other != name]
    return others[bucket % 2 :] + others[: bucket % 2]


def load(**of: float) -> list[float]:
    """By bucket: `b3=5` is 5 in bucket 3."""
    made = [0.0] * BUCKETS
    for name, size in of.items():
        made[int(name[1:])] = size
    return made


def test_below_the_floor_nobody_passes_anything_on_however_uneven() -> None:
    assert passing(members(), {"a": load(b0=30, b1=39)}, {}, round_robin, BOUNDS) == {}


def test_over_its_bound_a_node_passes_on_its_hottest_buckets_and_no_more() -> None:
    loads = {"a": load(b0=20, b1=50, b2=30), "b": load(b5=20), "c": load(b7=20)}
    assert limits(members(), {"a": 100, "b": 20, "c": 20}, BOUNDS) == dict.fromkeys(NAMES, pytest.approx(70))
    assert passing(members(), loads, {}, round_robin, BOUNDS) == {"a": {1}}


def test_a_next_in_rank_without_room_passes_the_bucket_on_too() -> None:
    loads = {"a": load(b0=60, b2=40), "b": load(b5=60), "c": load(b7=5)}
    assert passing(members(), loads, {}, round_robin, BOUNDS) == {"a": {0}, "b": {0}}, "bucket 0 asks b before c"


def test_without_room_anywhere_all_stays() -> None:
    loads = {name: load(b0=90, b1=20) for name in NAMES}
    assert passing(members(), loads, {}, round_robin, BOUNDS) == {}


def test_another_region_takes_what_fits_but_is_not_told_to_pass_its_own_on() -> None:
    two = [Member("a", "eu", 100), Member("b", "us", 100), Member("c", "ap", 100)]
    hot = load(b0=60, b2=60)
    assert passing(two, {"a": hot, "b": load(b5=5)}, {}, round_robin, BOUNDS) == {"a": {0}}, "120 of 100"
    assert passing(two, {"a": hot, "b": load(b5=65)}, {}, round_robin, BOUNDS) == {}, "b, the next in rank, has no room"


def test_a_bucket_comes_back_only_when_there_is_room_to_spare() -> None:
    before = {"a": frozenset({1})}
    stays = {"a": load(b0=20), "b": load(b1=37)}
    comes = {"a": load(b0=20), "b": load(b1=35)}
    assert passing(members(), stays, before, round_robin, BOUNDS) == {"a": {1}}, "20 + 37 is more than 0.8 of 70"
    assert passing(members(), comes, before, round_robin, BOUNDS) == {}


def rank(bucket: int) -> list[str]:
    """Who gets a bucket, best first."""
    turn = bucket % len(NAMES)
    return [*NAMES[turn:], *NAMES[:turn]]


def ranked_others(bucket: int, name: str) -> Iterable[str]:
    return [other for other in rank(bucket) if other != name]


Passed = dict[str, frozenset[int]]


def carried(sizes: list[float], passes: Passed) -> dict[str, list[float]]:
    """The loads when every viewer goes to the first in rank that does not pass the bucket on."""
    loads = {name: [0.0] * BUCKETS for name in NAMES}
    for bucket, size in enumerate(sizes):
        home = next((name for name in rank(bucket) if bucket not in passes.get(name, ())), rank(bucket)[0])
        loads[home][bucket] = size
    return loads


demands = st.lists(st.floats(0, 60), min_size=BUCKETS, max_size=BUCKETS)


def decided(sizes: list[float], before: Passed) -> Passed:
    return passing(members(), carried(sizes, before), before, ranked_others, BOUNDS)


@given(demands)
def test_no_bucket_is_passed_on_by_all(sizes: list[float]) -> None:
    after = decided(sizes, {})
    for bucket in range(BUCKETS):
        assert any(bucket not in after.get(name, frozenset()) for name in NAMES)


@given(demands)
def test_nobody_comes_over_its_bound_by_what_it_takes(sizes: list[float]) -> None:
    before, after = carried(sizes, {}), carried(sizes, decided(sizes, {}))
    bounds = limits(members(), {name: sum(load) for name, load in before.items()}, BOUNDS)
    for name in NAMES:
        assert sum(after[name]) <= max(bounds[name], sum(before[name])) + 1e-6


@given(demands)
def test_only_who_is_over_the_bound_loses_buckets(sizes: list[float]) -> None:
    before, after = carried(sizes, {}), carried(sizes, decided(sizes, {}))
    bounds = limits(members(), {name: sum(load) for name, load in before.items()}, BOUNDS)
    for name in NAMES:
        if sum(before[name]) <= bounds[name]:
            assert all(now >= then for then, now in zip(before[name], after[name], strict=True))


@given(demands)
def test_a_constant_demand_settles(sizes: list[float]) -> None:
    """Viewers move as told, and the decision comes to rest: no swinging to and fro."""
    passes: Passed = {}
    for _ in range(4):
        passes, before = decided(sizes, passes), passes
    assert passes == before


def test_the_order_of_members_does_not_matter() -> None:
    loads = {"a": load(b0=60, b2=40), "b": load(b5=60), "c": load(b7=5)}
    assert passing(members()[::-1], loads, {}, round_robin, BOUNDS) == passing(members(), loads, {}, round_robin, BOUNDS)
