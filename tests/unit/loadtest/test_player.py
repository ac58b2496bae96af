"""The player's clock and buffer, by a manual clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.player import Player, PlayerState


def player(watch_s: float = 20.0) -> Player:
    return Player(asked_at=100.0, watch_s=watch_s, start_buffer_s=2.0)


def test_startup_lasts_until_enough_is_buffered() -> None:
    one = player()
    one.segment_arrived(100.5, 1.0, last=False)
    assert one.state is PlayerState.STARTING
    one.segment_arrived(101.5, 4.0, last=False)
    assert (one.state, one.startup_s, one.stalled_s) == (PlayerState.PLAYING, 1.5, 0.0)


def test_a_stall_counts_from_the_moment_the_buffer_ran_empty() -> None:
    one = player()
    one.segment_arrived(101.0, 4.0, last=False)
    one.segment_arrived(108.0, 4.0, last=False)
    assert (one.played_s, one.stalled_s, one.stalls, one.state) == (4.0, 3.0, 1, PlayerState.PLAYING)


def test_a_stall_goes_on_until_enough_is_buffered_again() -> None:
    one = player()
    one.segment_arrived(101.0, 4.0, last=False)
    one.segment_arrived(106.0, 1.0, last=False)
    assert one.state is PlayerState.STALLED
    one.segment_arrived(107.0, 1.0, last=False)
    assert (one.state, one.stalled_s, one.stalls) == (PlayerState.PLAYING, 2.0, 1)


def test_a_buffer_that_is_empty_just_when_the_segment_comes_is_no_stall() -> None:
    one = player()
    one.segment_arrived(101.0, 4.0, last=False)
    one.segment_arrived(105.0, 4.0, last=False)
    assert (one.stalls, one.stalled_s, one.played_s) == (0, 0.0, 4.0)


def test_the_end_of_the_video_is_no_stall() -> None:
    one = player()
    one.segment_arrived(101.0, 1.0, last=True)
    assert one.state is PlayerState.PLAYING
    assert not one.needs_more()
    one.advance(130.0)
    assert (one.state, one.played_s, one.stalled_s) == (PlayerState.ENDED, 1.0, 0.0)


def test_a_viewer_who_has_seen_enough_leaves() -> None:
    one = player(watch_s=3.0)
    one.segment_arrived(101.0, 4.0, last=False)
    assert not one.needs_more()
    assert one.remaining_s() == 3.0
    one.advance(109.0)
    assert (one.state, one.played_s, one.stalled_s) == (PlayerState.ENDED, 3.0, 0.0)


def test_waiting_after_a_seek_is_no_stall() -> None:
    one = player()
    one.segment_arrived(101.0, 4.0, last=True)
    one.seek(102.0)
    assert (one.state, one.buffer_s) == (PlayerState.SEEKING, 0.0)
    one.segment_arrived(105.0, 4.0, last=False)
    assert (one.state, one.seeking_s, one.stalled_s, one.stalls) == (PlayerState.PLAYING, 3.0, 0.0, 0)


def test_nothing_is_fetched_beyond_the_buffers_limit() -> None:
    one = player(watch_s=100.0)
    one.segment_arrived(101.0, 10.0, last=False)
    assert one.wait_before_fetching_s(4.0, 12.0) == 2.0
    one.advance(103.0)
    assert one.wait_before_fetching_s(4.0, 12.0) == 0.0


def test_a_watch_shorter_than_the_start_buffer_still_starts() -> None:
    one = player(watch_s=1.0)
    one.segment_arrived(100.1, 1.5, last=False)
    assert one.needs_more()
    one.segment_arrived(100.2, 1.5, last=False)
    one.advance(101.3)
    assert one.state is PlayerState.ENDED


seconds = st.floats(0.1, 20)
events = st.lists(st.tuples(st.sampled_from(["segment", "last", "seek", "time"]), seconds, seconds), max_size=40)


@given(events, st.floats(0.5, 60))
def test_every_second_is_accounted_for_once(history: list[tuple[str, float, float]], watch_s: float) -> None:
    one, now, startup_s = player(watch_s), 100.0, None
    buffered_s = 0.0
    for kind, passed_s, segment_s in history:
        now += passed_s
        if kind in ("segment", "last"):
            buffered_s += segment_s
            one.segment_arrived(now, segment_s, last=kind == "last")
        elif kind == "seek":
            one.seek(now)
        else:
            one.advance(now)
        startup_s = one.startup_s if one.startup_s is not None else now - 100.0
        assert one.buffer_s >= 0
        assert one.played_s <= min(watch_s, buffered_s) + 1e-9
        if one.state is not PlayerState.ENDED:
            assert startup_s + one.played_s + one.stalled_s + one.seeking_s == pytest.approx(now - 100.0, abs=1e-6)
        else:
            assert not one.needs_more()
