"""Health of a node over its checks: a table of sequences, and laws over any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.watching.health import FLAP_WINDOW_S, PATIENCE, Hysteresis, NodeHealth, after_check, good_checks_needed, verdict
from headwater.settings.snapshot import Health

TWO = Hysteresis(down_after=2, up_after=2)

SEQUENCES = [
    # start, checks (+ good, - bad), states after each, why
    ("unknown", "+", "up", "the first good check is believed"),
    ("unknown", "-+", "unknown up", "one bad check before it does not matter"),
    ("up", "-", "up", "one bad check is no outage"),
    ("up", "--", "up down", "two in a row are"),
    ("up", "-+-+-", "up up up up up", "a good one between ends the row"),
    ("down", "+", "down", "one good check is no recovery"),
    ("down", "++", "down up", "two in a row are"),
    ("down", "+-+-+", "down down down down down", "a bad one between ends the row"),
    ("down", "+-++", "down down down up", "and the row begins again"),
]


@pytest.mark.parametrize(("start", "checks", "states", "why"), SEQUENCES)
def test_sequences_of_checks(start: Health, checks: str, states: str, why: str) -> None:
    health, seen = NodeHealth(start, since=0), []
    for second, check in enumerate(checks, 1):
        health = after_check(health, None if check == "+" else "refused", second, TWO)
        seen.append(health.state)
    assert seen == states.split(), why


def test_a_node_never_seen_gets_the_time_that_a_start_takes() -> None:
    health = NodeHealth("unknown", since=0)
    for second in range(1, PATIENCE):
        health = after_check(health, "refused", second, TWO)
        assert health.state == "unknown"
    assert after_check(health, "refused", PATIENCE, TWO).state == "down"


def test_since_and_the_error_follow_the_state() -> None:
    once = after_check(NodeHealth("up", since=5), "refused", 10, TWO)
    assert (once.since, once.error) == (5, "refused")
    down = after_check(once, "timed out", 11, TWO)
    assert (down.state, down.since, down.error) == ("down", 11, "timed out")
    longer = after_check(down, "refused again", 12, TWO)
    assert (longer.since, longer.error) == (11, "refused again")
    up = after_check(after_check(longer, None, 13, TWO), None, 14, TWO)
    assert (up.state, up.since, up.error) == ("up", 14, None)


@given(st.lists(st.booleans()), st.integers(1, 5), st.integers(1, 5))
def test_a_state_changes_only_after_enough_checks_in_a_row(checks: list[bool], down_after: int, up_after: int) -> None:
    hysteresis = Hysteresis(down_after, up_after)
    health = NodeHealth("up", since=0)
    for second, good in enumerate(checks, 1):
        before, health = health, after_check(health, None if good else "bad", second, hysteresis)
        if health.state != before.state:
            needed = up_after if health.state == "up" else down_after
            assert checks[second - needed : second] == [health.state == "up"] * needed
            assert health.since == second


OPINIONS = [
    # (who says bad, who says good, whether it counts as bad, why)
    ("c", "", True, "who is alone decides alone"),
    ("c", "d", False, "one of two is one point of view"),
    ("c", "de", False, "control's own link is broken"),
    ("d", "ce", False, "another vantage's link is broken"),
    ("cd", "e", True, "two of three"),
    ("cd", "ef", False, "half is no majority"),
    ("def", "c", True, "control reaches it, but those that need it do not"),
    ("", "cdef", False, "all is well"),
]


@pytest.mark.parametrize(("bad", "good", "down", "why"), OPINIONS)
def test_more_than_half_of_those_who_look_must_say_so(bad: str, good: str, down: bool, why: str) -> None:
    opinions: dict[str, str | None] = dict.fromkeys(bad, "refused") | dict.fromkeys(good)
    assert (verdict(opinions) is not None) is down, why


def test_the_reason_is_controls_own_and_says_how_many_agree() -> None:
    assert verdict({"shield-1": "reset", "control": "refused", "dns": None}) == "refused (say 2 of 3 vantages)"
    assert verdict({"control": "refused"}) == "refused"


def test_who_flaps_must_be_good_for_longer_each_time_and_is_forgiven_later() -> None:
    health, needed = NodeHealth("up", since=0), []
    second = 0
    for _ in range(5):
        for error in ("refused", "refused"):
            second += 1
            health = after_check(health, error, second, TWO)
        assert health.state == "down"
        checks = 0
        while health.state == "down":
            second, checks = second + 1, checks + 1
            health = after_check(health, None, second, TWO)
        needed.append(checks)
    assert needed == [2, 2, 4, 8, 16]
    assert good_checks_needed(health, second + FLAP_WINDOW_S + 1, TWO) == 2
