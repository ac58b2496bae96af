"""A sample of the drill over mutated packets (`python -m tests.drills dns` is the whole of it)."""

from __future__ import annotations

import pytest

from tests.drills import dns as drill


@pytest.mark.parametrize("seed", [11, 12])
def test_no_mutated_packet_crashes_the_server_or_is_answered_with_a_longer_error(seed: int) -> None:
    campaign = drill.run(2000, seed, drill.responders())
    assert campaign.faults == []
    assert campaign.worst <= 1.0
    assert {"FORMERR", "NOTIMP", "REFUSED", "NOERROR", "NXDOMAIN", "BADVERS"} <= set(campaign.outcomes)


async def test_a_mutated_packet_is_answered_in_a_batch_as_it_is_alone() -> None:
    assert await drill.run_in_batches(1280, 13) == []
