"""A POP dies under viewers: its plays fail for no longer than health delay and TTL, and nobody's fail afterwards."""

from __future__ import annotations

import pytest
import yaml

from tests.support.asking import ask_until_true
from tests.support.lab import Lab
from tests.support.popdeath import answer, kill_pop

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]

ASIA = "203.0.113.0/24"
EDGE = "sin-1"


async def test_once_health_delay_and_ttl_have_passed_no_play_fails(lab: Lab, video_id: str) -> None:
    name, dead = f"v000.{lab.deployment.zone}", lab.edges[EDGE].host

    async def says(ttl_s: float) -> bool:
        addresses, ttl = await answer(lab, name, ASIA)
        return addresses[0] == dead and ttl == ttl_s

    before = lab.config.read_text()
    content = yaml.safe_load(before)
    content["dns"]["ttl"] = "2 s"
    lab.config.write_text(yaml.safe_dump(content, sort_keys=False))
    try:
        await ask_until_true(lambda: says(2))
        death = await kill_pop(lab, EDGE, ASIA, video_id, viewers=8, after_s=1.5)
    finally:
        lab.config.write_text(before)
        await lab.start(EDGE)
        await ask_until_true(lambda: says(lab.deployment.dns.ttl))
    print(death.line())
    assert death.plays > 20
    assert death.failed_at, "viewers were there when it died"
    assert death.failed_after_bound == [], death.line()
    assert death.health_delay_s < 15
