"""An edge that is killed at any moment serves nothing damaged or short afterwards. 500 kills: see edge_kills.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.edge_kills import campaign


@pytest.mark.slow
async def test_a_killed_edge_serves_nothing_damaged_or_short(tmp_path: Path) -> None:
    tally = await campaign(tmp_path, kills=8, seed=1, until_s=12)
    assert tally.kills >= 2
    assert min(tally.hits, tally.whole, tally.parts) > 0, tally
    assert (tally.damaged, tally.refused, tally.over_budget) == (0, 0, 0), tally
