"""Control is cut off from everybody by links that hang: sockets stay open and nothing comes through."""

from __future__ import annotations

from pathlib import Path

from tests.support.partition import CACHES, partition

CAUGHT_UP_S = 10.0  # on a busy machine; `make drills DRILL=partition` says how long it takes on a quiet one


async def test_a_control_whose_words_are_lost_stops_nobody_and_all_catch_up_once_they_arrive_again(tmp_path: Path) -> None:
    """Nothing that was on its way ever arrives: nodes must not wait for an answer that was lost."""
    shown = await partition(tmp_path, ("shield-1", "fra-1", "dns"), from_control=True, to_control=False, forgets=True)
    assert shown.missing == set(CACHES)
    assert shown.order_s < 10
    assert max(shown.snapshot_s, shown.purge_s) < CAUGHT_UP_S
    assert shown.served == {2}
