"""What a plan says of a change: what moves, what is cold, what does not hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from headwater.rules.names import BUCKETS
from headwater.rules.ownership import owners
from headwater.rules.planning import EdgeTraffic, Holding, Measured, Seen, plan
from headwater.rules.steering import Pop, Region, World
from tests.support.worlds import edge, worlds

MBIT = 1e6


def two_pops(fra: float = 100, ams: float = 100, *, fra_up: bool = True) -> World:
    return World(
        (Region("eu", spill=("us",)), Region("us")),
        (Pop("fra", "eu", fra), Pop("ams", "eu", ams), Pop("iad", "us")),
        (edge("fra-1", "fra", healthy=fra_up), edge("ams-1", "ams"), edge("iad-1", "iad")),
        "eu",
    )


def seen(fra: float = 400, ams: float = 400, iad: float = 100, capacity: float = 1000) -> Seen:
    rates = {"fra-1": fra, "ams-1": ams, "iad-1": iad}
    return Seen(
        {name: EdgeTraffic(rate * MBIT) for name, rate in rates.items()}, dict.fromkeys(rates, capacity * MBIT), {}, ("shield-1",)
    )


def test_a_plan_without_a_change_moves_nothing() -> None:
    found = plan(two_pops(), two_pops(), seen())
    assert (found.moved_buckets, found.moved_share, found.moves, found.refusals) == (0, 0.0, (), ())
    assert found.measured is Measured.PER_EDGE


def test_a_plan_says_what_draining_a_pop_moves_before_it_moves_as_trafficcontrol_4982_asks() -> None:
    found = plan(two_pops(), two_pops(fra=0), seen())
    by_name = {pop.name: pop for pop in found.pops}
    fra, ams, iad = by_name["fra"], by_name["ams"], by_name["iad"]
    assert (fra.buckets_after, fra.gained, fra.lost) == (0, 0, fra.buckets_before)
    assert (ams.gained, ams.lost, ams.buckets_after) == (fra.lost, 0, BUCKETS)
    assert (iad.gained, iad.lost) == (0, 0)
    assert ams.load_after_bps == pytest.approx(800 * MBIT)
    assert found.moved_share == pytest.approx(400 / 900)


def test_a_pop_that_could_not_send_what_it_would_get_is_refused_with_a_cure() -> None:
    (refusal,) = plan(two_pops(), two_pops(fra=0), seen(capacity=700)).refusals
    assert refusal.what == "POP ams would have to send 800 Mbit/s and can send 700 Mbit/s"
    assert "less weight" in refusal.cure


def test_a_pop_that_would_be_nearly_full_is_a_warning() -> None:
    found = plan(two_pops(), two_pops(fra=0), seen(capacity=850))
    assert found.refusals == ()
    assert [warning.what for warning in found.warnings] == ["POP ams would be 94% full"]


def test_draining_everything_is_refused() -> None:
    world = two_pops()
    empty = replace(world, edges=tuple(replace(one, weight=0) for one in world.edges))
    assert [refusal.what for refusal in plan(world, empty, seen()).refusals] == ["every edge would be drained or gone"]


def test_leaving_only_edges_that_are_down_is_refused() -> None:
    after = replace(two_pops(ams=0, fra_up=False), pops=(Pop("fra", "eu"), Pop("ams", "eu", 0), Pop("iad", "us", 0)))
    assert "is down" in plan(two_pops(fra_up=False), after, seen()).refusals[0].what


def test_a_region_that_loses_its_last_pop_is_a_warning_that_says_where_its_viewers_go() -> None:
    found = plan(two_pops(), two_pops(fra=0, ams=0), seen())
    assert [warning.what for warning in found.warnings if "region" in warning.what] == [
        "region eu would have no POP of its own; its viewers spill to us"
    ]
    assert {pop.name: pop.buckets_after for pop in found.pops} == {"fra": 0, "ams": 0, "iad": 2 * BUCKETS}


def test_traffic_by_bucket_is_taken_as_measured_and_not_spread() -> None:
    owned = owners(two_pops())["eu"]
    hot = owned.index("fra-1")
    traffic = {"fra-1": EdgeTraffic(400 * MBIT, {hot: 400 * MBIT})}
    moved = plan(two_pops(), two_pops(fra=0), Seen(traffic, {"ams-1": 1e9}))
    assert moved.measured is Measured.PER_BUCKET
    assert moved.moved_share == 1.0
    kept = plan(two_pops(), two_pops(fra=99), Seen(traffic, {"fra-1": 1e9, "ams-1": 1e9}))
    assert kept.moved_share in (0.0, 1.0)


def test_what_an_edge_sends_for_buckets_that_are_no_longer_its_own_belongs_to_its_region() -> None:
    world = two_pops(fra=0)
    found = plan(world, world, Seen({"fra-1": EdgeTraffic(10 * MBIT, {5: 10 * MBIT})}, {}))
    assert found.total_bps == pytest.approx(10 * MBIT)
    assert {pop.name: pop.load_after_bps for pop in found.pops if pop.load_after_bps} == {"ams": pytest.approx(10 * MBIT)}


def test_hot_objects_of_moving_buckets_are_cold_where_they_go_unless_they_are_there_already() -> None:
    owned = owners(two_pops())["eu"]
    first, second = [bucket for bucket, name in enumerate(owned) if name == "fra-1"][:2]
    holdings = {
        "fra-1": {first: Holding(10, 1000), second: Holding(5, 500)},
        "ams-1": {second: Holding(5, 500)},
        "shield-1": {first: Holding(4, 400)},
    }
    found = plan(two_pops(), two_pops(fra=0), replace(seen(), holdings=holdings))
    (ams,) = [pop for pop in found.pops if pop.name == "ams"]
    assert (ams.cold_objects, ams.cold_bytes) == (10, 1000)
    assert found.shield_fills == Holding(10, 1000)
    assert found.origin_fills == Holding(6, 600)
    (move,) = found.moves
    assert (move.source, move.target, move.size_bytes) == ("fra-1", "ams-1", 1000)


def test_without_any_traffic_the_moved_share_is_that_of_buckets() -> None:
    found = plan(two_pops(), two_pops(fra=0, ams=0), Seen())
    assert found.measured is Measured.NOT
    assert found.moved_share == 0.5  # all of one region of two
    assert sum(move.pairs for move in found.moves) == found.moved_buckets


def test_a_bucket_that_moves_for_two_regions_counts_twice_in_its_move() -> None:
    spilled, back = two_pops(fra=0, ams=0), two_pops(ams=0)
    everything_to_fra = replace(back, pops=tuple(replace(pop, weight=100.0 if pop.name == "fra" else 0.0) for pop in back.pops))
    found = plan(spilled, everything_to_fra, Seen())
    (move,) = found.moves
    assert (move.target, len(move.buckets), move.pairs, found.moved_buckets) == ("fra-1", 4096, 8192, 8192)


@settings(max_examples=10)
@given(worlds(), worlds())
def test_what_is_gained_is_what_is_lost_and_no_traffic_is_made_or_lost(before: World, after: World) -> None:
    after = replace(after, regions=before.regions, default_region=before.default_region)
    after = replace(after, pops=tuple(replace(pop, region=before.regions[0].name) for pop in after.pops))
    traffic = {one.name: EdgeTraffic(MBIT) for one in before.edges}
    found = plan(before, after, Seen(traffic, {}))
    served = sum(edge.load_before_bps for edge in found.edges)
    assert sum(edge.load_after_bps for edge in found.edges) == pytest.approx(served)
    assert sum(edge.gained for edge in found.edges) == sum(edge.lost for edge in found.edges) == found.moved_buckets
    assert served == pytest.approx(found.total_bps)
