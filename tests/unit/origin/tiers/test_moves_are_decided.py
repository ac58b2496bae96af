"""Where objects should live, by their heat."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from origin.objects.interface import ObjectInfo
from origin.tiers.heat import Heat, Move, MoveReason, TierRule, decide_moves, one_read

HOUR = 3600.0
DAY = 86400.0
NOW = 1_800_000_000.0
RULES = [TierRule("hot", 30 * DAY, None), TierRule("warm", 90 * DAY, 20), TierRule("cold", None, 2)]


def made(age_s: float, key: str = "k") -> ObjectInfo:
    return ObjectInfo(key, 1, "0" * 64, "x/y", NOW - age_s)


def decided(tier: str, info: ObjectInfo, heat: Heat | None = None) -> list[Move]:
    return decide_moves(NOW, RULES, [(tier, info)], {info.key: heat} if heat else {})


def test_what_nobody_reads_goes_down_one_tier_at_a_time() -> None:
    assert decided("hot", made(29 * DAY)) == []
    assert decided("hot", made(30 * DAY)) == [Move(made(30 * DAY), "hot", "warm", MoveReason.UNREAD)]
    assert decided("hot", made(400 * DAY)) == [Move(made(400 * DAY), "hot", "warm", MoveReason.UNREAD)]
    assert decided("warm", made(400 * DAY)) == [Move(made(400 * DAY), "warm", "cold", MoveReason.UNREAD)]
    assert decided("cold", made(4000 * DAY)) == []


def test_one_read_keeps_an_old_object_where_it_is() -> None:
    assert decided("hot", made(400 * DAY), one_read(NOW - 29 * DAY)) == []


def test_what_is_read_often_goes_up() -> None:
    assert decided("cold", made(DAY), Heat(2.0, NOW)) == [Move(made(DAY), "cold", "warm", MoveReason.POPULAR)]
    assert decided("cold", made(DAY), Heat(1.9, NOW)) == []
    assert decided("warm", made(DAY), Heat(20.0, NOW)) == [Move(made(DAY), "warm", "hot", MoveReason.POPULAR)]
    assert decided("warm", made(DAY), Heat(20.0, NOW - HOUR)) == []
    assert decided("hot", made(DAY), Heat(2000.0, NOW)) == []


def test_a_copy_that_a_hotter_tier_shadows_goes_first() -> None:
    new, old = made(1), made(400 * DAY)
    assert decide_moves(NOW, RULES, [("cold", old), ("hot", new)], {}) == [Move(old, "cold", None, MoveReason.DUPLICATE)]


def test_steady_reads_have_a_heat_of_their_rate() -> None:
    heat = one_read(0.0)
    for number in range(1, 1000):
        heat = heat.merged(one_read(number * HOUR / 50))
    assert math.isclose(heat.at(heat.read_at), 50, rel_tol=0.02)
    assert math.isclose(heat.at(heat.read_at + HOUR), heat.score / math.e)


heats = st.builds(Heat, st.floats(0, 1e6), st.floats(0, 1e6))


@given(heats, heats, st.floats(0, 1e6))
def test_heats_merge_in_any_order_and_lose_nothing(one: Heat, other: Heat, later: float) -> None:
    now = max(one.read_at, other.read_at) + later
    assert math.isclose(one.merged(other).at(now), other.merged(one).at(now), abs_tol=1e-9)
    assert math.isclose(one.merged(other).at(now), one.at(now) + other.at(now), rel_tol=1e-6, abs_tol=1e-9)


@given(
    st.lists(st.tuples(st.sampled_from(["hot", "warm", "cold"]), st.sampled_from("abc"), st.floats(0, 500 * DAY)), max_size=9),
    st.dictionaries(st.sampled_from("abc"), st.builds(Heat, st.floats(0, 100), st.floats(NOW - 500 * DAY, NOW))),
)
def test_no_decision_touches_the_only_copy_without_a_target(placed: list[tuple[str, str, float]], heats: dict[str, Heat]) -> None:
    objects = {(tier, key): made(age_s, key) for tier, key, age_s in placed}
    moves = decide_moves(NOW, RULES, [(tier, info) for (tier, _), info in objects.items()], heats)
    names = [rule.name for rule in RULES]
    for move in moves:
        if move.target is None:
            hotter = names[: names.index(move.source)]
            assert any((tier, move.info.key) in objects for tier in hotter)
        else:
            assert abs(names.index(move.target) - names.index(move.source)) == 1
