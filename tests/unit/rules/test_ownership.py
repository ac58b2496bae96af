"""Ownership of all buckets at once agrees with `steer`, and costs one draw a node and bucket."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings

from headwater.rules import ownership
from headwater.rules.names import BUCKETS, Bucket
from headwater.rules.ownership import NOBODY, owners
from headwater.rules.steering import Edge, Pop, Region, World, steer
from tests.support.worlds import edge, golden_world, worlds

SAMPLE = random.Random(7).sample(range(BUCKETS), 40)


@settings(max_examples=15)
@given(worlds())
def test_the_owner_of_a_bucket_is_whom_steering_names_first(world: World) -> None:
    owned = owners(world)
    for region in world.regions:
        for bucket in SAMPLE:
            assert owned[region.name][bucket] == steer(Bucket(bucket), region.name, world)[0].name


def test_every_bucket_of_the_golden_world_has_the_owner_that_steering_names() -> None:
    world = golden_world()
    for region, by_bucket in owners(world).items():
        assert list(by_bucket) == [steer(Bucket(bucket), region, world)[0].name for bucket in range(BUCKETS)]


def test_a_world_without_edges_has_no_owners() -> None:
    world = World((Region("eu"),), (Pop("fra", "eu"),), (), "eu")
    assert set(owners(world)["eu"]) == {NOBODY}


def hundred_pops(weight: float = 100) -> World:
    pops = tuple(Pop(f"pop{n}", "eu", weight if n == 0 else 100) for n in range(100))
    return World((Region("eu"),), pops, tuple(edge(f"edge{n}", f"pop{n}") for n in range(100)), "eu")


def test_a_hundred_pops_cost_one_draw_a_pop_and_bucket_and_another_weight_none(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0

    def counting(data: bytes) -> object:
        nonlocal drawn
        drawn += 1
        return hashlib.sha256(data)

    monkeypatch.setattr(ownership, "_sha256", counting)
    ownership._draws.cache_clear()
    owners(hundred_pops())
    assert drawn == 100 * BUCKETS
    owners(hundred_pops(50))
    assert drawn == 100 * BUCKETS
    ownership._draws.cache_clear()


def test_load_of_a_hundred_caches_falls_on_all_of_them_as_trafficcontrol_6902_asks() -> None:
    """There, consistent hashing put nearly all load on 15 of 100 caches."""
    pop = Pop("fra", "eu")
    edges: tuple[Edge, ...] = tuple(replace(edge(f"cache-{n}", "fra"), weight=100) for n in range(100))
    owned = owners(World((Region("eu"),), (pop,), edges, "eu"))["eu"]
    shares = sorted(owned.count(one.name) for one in edges)
    assert shares[0] > 0.4 * BUCKETS / 100
    assert shares[-1] < 1.7 * BUCKETS / 100
    assert sum(shares[-15:]) < 0.25 * BUCKETS


def test_an_answer_names_edges_when_every_cache_is_marked_down_as_traffic_control_341_asks() -> None:
    """There, DNS answers nothing when the monitor loses all caches at once."""
    world = golden_world()
    down = replace(world, edges=tuple(replace(one, healthy=False) for one in world.edges))
    for region in down.regions:
        assert all(steer(Bucket(bucket), region.name, down) for bucket in SAMPLE)
    assert NOBODY not in owners(down)["eu"]
