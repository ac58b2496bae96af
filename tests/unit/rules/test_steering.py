"""Steering: its laws over any world, tables for fail-over, and golden vectors that fix its answers for ever."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.rules.names import BUCKETS, Bucket
from headwater.rules.steering import Edge, Pop, Region, World, ranked_edges, steer
from tests.support.deployments import ROOT
from tests.support.steering_vectors import plain, text
from tests.support.worlds import REGIONS, edge, golden_world, worlds
from tests.unit.rules import steering_again

GOLDEN = Path(__file__).with_name("steering_vectors.json")
PUBLISHED = ROOT / "docs" / "steering-vectors.json"
TOLERANCE = 0.05  # share of 4096 buckets; six standard deviations of a fair coin over them

buckets = st.integers(0, BUCKETS - 1).map(Bucket)
regions = st.sampled_from(REGIONS)


def names(bucket: int, region: str, world: World) -> list[str]:
    return [steered.name for steered in steer(Bucket(bucket), region, world)]


def first_choices(region: str, world: World) -> list[str]:
    return [next(ranked_edges(Bucket(bucket), region, world)).name for bucket in range(BUCKETS)]


def test_answers_are_those_that_were_given_before_the_vectors_were_published() -> None:
    vectors = json.loads(GOLDEN.read_text())
    assert len(vectors) >= 60
    for vector in vectors:
        found = names(int(vector["bucket"], 16), vector["region"], golden_world())
        assert found == vector["edges"], vector


def test_the_published_vectors_are_what_steering_answers() -> None:
    assert PUBLISHED.read_text() == text(), "python -m tests.support.steering_vectors > docs/steering-vectors.json"


def test_whoever_writes_steering_again_from_its_page_gets_the_published_answers() -> None:
    published = json.loads(PUBLISHED.read_text())
    for one in published["scores"]:
        assert steering_again.claim(one["key"], one["node"], one["weight"]) == pytest.approx(one["score"], rel=1e-12)
    for block in published["worlds"]:
        for vector in block["answers"]:
            found = steering_again.answer(vector["bucket"], vector["region"], block["world"])
            assert found == vector["edges"], (block["what"], vector)


@given(buckets, regions, worlds(), st.booleans())
def test_steering_written_again_agrees_in_any_world(bucket: Bucket, region: str, world: World, fail_closed: bool) -> None:
    world = replace(world, fail_closed=fail_closed)
    plainly = plain(world)
    for kind, nodes in (("pops", world.pops), ("edges", world.edges)):
        for node in nodes:
            plainly[kind][node.name]["passes"] = [f"{bucket:03x}"] if bucket in node.passes else []
    assert steering_again.answer(f"{bucket:03x}", region, plainly) == names(bucket, region, world)


@given(buckets, regions, worlds())
def test_the_answer_is_never_empty_and_names_no_edge_twice(bucket: Bucket, region: str, world: World) -> None:
    answer = names(bucket, region, world)
    assert answer
    assert len(set(answer)) == len(answer)


def test_a_world_without_edges_has_an_empty_answer() -> None:
    assert steer(Bucket(0), "eu", World((Region("eu"),), (Pop("fra", "eu"),), (), "eu")) == ()


@given(buckets, regions, worlds(), st.data())
def test_the_order_of_declaration_never_matters(bucket: Bucket, region: str, world: World, data: st.DataObject) -> None:
    again = World(
        regions=tuple(data.draw(st.permutations(world.regions))),
        pops=tuple(data.draw(st.permutations(world.pops))),
        edges=tuple(data.draw(st.permutations(world.edges))),
        default_region=world.default_region,
    )
    assert steer(bucket, region, again) == steer(bucket, region, world)


@given(buckets, regions, worlds())
def test_drained_and_unhealthy_edges_are_skipped_while_another_serves(bucket: Bucket, region: str, world: World) -> None:
    open_pops = {pop.name for pop in world.pops if pop.weight > 0}
    usable = {edge.name for edge in world.edges if edge.healthy and edge.weight > 0 and edge.pop in open_pops}
    if usable:
        assert set(names(bucket, region, world)) == usable


@given(regions, worlds(), st.data())
@settings(max_examples=15, deadline=None)
def test_removing_an_edge_moves_only_its_own_buckets(region: str, world: World, data: st.DataObject) -> None:
    # Healthy and undrained, so that no fallback turns other edges on.
    world = healthy(world)
    gone = data.draw(st.sampled_from(world.edges))
    left = replace(world, edges=tuple(edge for edge in world.edges if edge != gone))
    if not left.edges:
        return
    for before, after in zip(first_choices(region, world), first_choices(region, left), strict=True):
        assert after == before or before == gone.name


@given(buckets, regions, worlds(), st.data())
def test_a_removed_edge_leaves_the_rank_of_the_others_alone(
    bucket: Bucket, region: str, world: World, data: st.DataObject
) -> None:
    world = healthy(world)
    gone = data.draw(st.sampled_from(world.edges))
    left = replace(world, edges=tuple(edge for edge in world.edges if edge != gone))
    assert names(bucket, region, left) == [name for name in names(bucket, region, world) if name != gone.name]


def healthy(world: World) -> World:
    return replace(
        world,
        pops=tuple(replace(pop, weight=pop.weight or 10) for pop in world.pops),
        edges=tuple(replace(edge, weight=edge.weight or 10, healthy=True) for edge in world.edges),
    )


@given(st.lists(st.sampled_from([25.0, 50.0, 100.0, 200.0]), min_size=2, max_size=5), st.sampled_from([1.5, 2.0, 4.0]))
@settings(max_examples=15, deadline=None)
def test_a_raised_weight_draws_its_share_from_the_others_and_moves_nothing_else(weights: list[float], factor: float) -> None:
    edges = [edge(f"e{number}", "fra", weight) for number, weight in enumerate(weights)]
    before = first_choices("eu", one_pop(edges))
    after = first_choices("eu", one_pop([replace(edges[0], weight=weights[0] * factor), *edges[1:]]))
    for old, new in zip(before, after, strict=True):
        assert new in (old, "e0")
    raised_share = weights[0] * factor / (sum(weights) - weights[0] + weights[0] * factor)
    moved = sum(old != new for old, new in zip(before, after, strict=True)) / BUCKETS
    assert after.count("e0") / BUCKETS == pytest.approx(raised_share, abs=TOLERANCE)
    assert moved == pytest.approx(raised_share - weights[0] / sum(weights), abs=TOLERANCE)


@given(st.lists(st.sampled_from([25.0, 50.0, 100.0, 200.0]), min_size=2, max_size=4))
@settings(max_examples=10, deadline=None)
def test_pops_of_a_region_share_its_buckets_by_weight(weights: list[float]) -> None:
    pops = tuple(Pop(f"p{number}", "eu", weight) for number, weight in enumerate(weights))
    # Edge weights and edge counts of a POP say nothing about the POP's share.
    edges = tuple(edge(f"e{number}-{twin}", pop.name, 1 + twin) for number, pop in enumerate(pops) for twin in range(number + 1))
    chosen = first_choices("eu", World((Region("eu"),), pops, edges, "eu"))
    for number, weight in enumerate(weights):
        share = sum(name.startswith(f"e{number}-") for name in chosen) / BUCKETS
        assert share == pytest.approx(weight / sum(weights), abs=TOLERANCE)


def one_pop(edges: list[Edge]) -> World:
    return World((Region("eu"),), (Pop("fra", "eu"),), tuple(edges), "eu")


def pops_in_order(region: str, world: World) -> list[str]:
    """POP names of one bucket's answer, each once."""
    return list(dict.fromkeys(steered.pop for steered in steer(Bucket(0x3FA), region, world)))


def test_own_region_then_spill_in_its_order_then_the_rest() -> None:
    world = World(
        regions=(Region("eu", spill=("ap", "us")), Region("us"), Region("ap"), Region("sa")),
        pops=(Pop("gru", "sa"), Pop("iad", "us"), Pop("sin", "ap"), Pop("fra", "eu")),
        edges=(edge("gru-1", "gru"), edge("iad-1", "iad"), edge("sin-1", "sin"), edge("fra-1", "fra")),
        default_region="us",
    )
    assert pops_in_order("eu", world) == ["fra", "sin", "iad", "gru"]
    assert pops_in_order("sa", world)[0] == "gru"
    assert pops_in_order("mars", world)[0] == "iad", "an unknown region is served as the default region"


FALLBACKS = [
    # (weights and health of a and b, who serves, why)
    ({"a": (100, True), "b": (100, False)}, {"a"}, "the unhealthy one is skipped"),
    ({"a": (100, True), "b": (0, True)}, {"a"}, "the drained one is skipped"),
    ({"a": (100, False), "b": (100, False)}, {"a", "b"}, "nobody is healthy: checks are not believed"),
    ({"a": (100, False), "b": (0, True)}, {"a"}, "a drained edge does not come back for an unhealthy one"),
    ({"a": (0, True), "b": (0, True)}, {"a", "b"}, "all drained: the drained ones serve"),
    ({"a": (0, True), "b": (0, False)}, {"a"}, "all drained: the healthy one serves"),
    ({"a": (0, False), "b": (0, False)}, {"a", "b"}, "all drained and unhealthy: still an answer"),
]


@pytest.mark.parametrize(("nodes", "serving", "why"), FALLBACKS)
def test_who_serves_when_nodes_are_drained_or_unhealthy(
    nodes: dict[str, tuple[float, bool]], serving: set[str], why: str
) -> None:
    edges = [edge(name, "fra", weight, healthy=healthy) for name, (weight, healthy) in nodes.items()]
    assert set(names(7, "eu", one_pop(edges))) == serving, why


def test_a_drained_pop_is_skipped_with_all_its_edges() -> None:
    world = golden_world()
    drained = replace(world, pops=tuple(replace(pop, weight=0) if pop.name == "fra" else pop for pop in world.pops))
    assert not {"fra-1", "fra-2"} & set(names(5, "eu", drained))


def test_a_pop_and_its_edge_of_one_name_draw_apart() -> None:
    pops = (Pop("a", "eu"), Pop("b", "eu"))
    world = World((Region("eu"),), pops, (edge("a", "a"), edge("x", "a"), edge("b", "b")), "eu")
    chosen = first_choices("eu", world)
    assert chosen.count("a") / (chosen.count("a") + chosen.count("x")) == pytest.approx(0.5, abs=TOLERANCE)


@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=6), st.floats(10, 200), min_size=2, max_size=6),
    st.floats(0.01, 2.0),
    st.booleans(),
    st.data(),
)
@settings(max_examples=8, deadline=None)
def test_a_weight_change_of_x_percent_moves_at_most_x_percent_of_buckets(
    weights: dict[str, float], change: float, of_pops: bool, data: st.DataObject
) -> None:
    """Plus rounding: hashing 4096 buckets is a sample, whose deviation is that of as many throws of a coin."""
    name = data.draw(st.sampled_from(sorted(weights)))
    grows = data.draw(st.booleans())
    after = {**weights, name: weights[name] * (1 + change) if grows else weights[name] / (1 + change)}
    worlds_of = [
        _of_pops(one) if of_pops else one_pop([edge(key, "fra", weight) for key, weight in one.items()])
        for one in (weights, after)
    ]
    before_and_after = zip(*(first_choices("eu", world) for world in worlds_of), strict=True)
    moved = sum(old != new for old, new in before_and_after)
    assert moved <= change * BUCKETS + 6 * (change * BUCKETS) ** 0.5 + 6


def _of_edges(weights: dict[str, float]) -> World:
    return one_pop([edge(name, "fra", weight) for name, weight in weights.items()])


def _of_pops(weights: dict[str, float]) -> World:
    pops = tuple(Pop(name, "eu", weight) for name, weight in weights.items())
    return World((Region("eu"),), pops, tuple(edge(f"{name}-1", name) for name in weights), "eu")


@given(buckets, regions, worlds(), st.data())
def test_a_passed_bucket_goes_behind_and_no_other_bucket_moves(
    bucket: Bucket, region: str, world: World, data: st.DataObject
) -> None:
    passing = data.draw(st.sampled_from(world.edges))
    passed = replace(
        world, edges=tuple(replace(one, passes=one.passes | {bucket}) if one == passing else one for one in world.edges)
    )
    other = Bucket((bucket + 1) % BUCKETS)
    assert names(other, region, passed) == names(other, region, world)
    before, after = names(bucket, region, world), names(bucket, region, passed)
    assert [name for name in after if name != passing.name] == [name for name in before if name != passing.name]
    assert passing.name not in before or after.index(passing.name) >= before.index(passing.name)


@given(buckets, regions, worlds())
def test_who_fails_closed_names_healthy_undrained_edges_only(bucket: Bucket, region: str, world: World) -> None:
    open_pops = {pop.name for pop in world.pops if pop.weight > 0}
    usable = {edge.name for edge in world.edges if edge.healthy and edge.weight > 0 and edge.pop in open_pops}
    assert set(names(bucket, region, replace(world, fail_closed=True))) == usable


def test_who_comes_back_gets_its_share_by_eighths() -> None:
    for ramp in (0.125, 0.5, 1.0):
        world = one_pop([replace(edge("a", "fra"), ramp=ramp), edge("b", "fra")])
        assert first_choices("eu", world).count("a") / BUCKETS == pytest.approx(ramp / (1 + ramp), abs=TOLERANCE)
