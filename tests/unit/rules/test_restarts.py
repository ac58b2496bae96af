"""When a dead node is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.restarts import (
    CANNOT_START,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    RAN_WELL_S,
    History,
    StartAgain,
    StayDown,
    after_exit,
    describe_exit,
)


def test_a_node_that_cannot_start_stays_down() -> None:
    assert after_exit(History(), CANNOT_START, 3.0) == StayDown()


def test_an_end_that_nobody_asked_for_is_a_fault_whatever_its_status() -> None:
    assert after_exit(History(), 0, 5.0) == StartAgain(FIRST_PAUSE_S, History(1))


def test_pauses_double_while_faults_follow_each_other() -> None:
    history, pauses = History(), []
    for _ in range(7):
        step = after_exit(history, -9, 0.1)
        assert isinstance(step, StartAgain)
        history = step.history
        pauses.append(step.pause_s)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_a_node_that_ran_well_begins_anew() -> None:
    assert after_exit(History(9), 1, RAN_WELL_S) == StartAgain(FIRST_PAUSE_S, History(1))


@given(st.integers(0, 10**9), st.integers(-64, 255).filter(lambda status: status != CANNOT_START), st.floats(0, 1e9))
def test_the_pause_is_bounded_for_ever(faults: int, status: int, ran_s: float) -> None:
    step = after_exit(History(faults), status, ran_s)
    assert isinstance(step, StartAgain)
    assert FIRST_PAUSE_S <= step.pause_s <= LONGEST_PAUSE_S


@pytest.mark.parametrize(("status", "shown"), [(1, "status 1"), (-9, "signal SIGKILL"), (-99, "signal 99")])
def test_an_exit_is_described_in_words(status: int, shown: str) -> None:
    assert describe_exit(status, {9: "SIGKILL"}) == shown
