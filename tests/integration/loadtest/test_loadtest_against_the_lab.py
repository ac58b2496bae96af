"""The smoke scenario against a lab of real processes: once as it is, once with an edge that just died."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from loadtest.run import Target, run_scenario
from loadtest.scenario import Arrival, Audience, Videos, Watch, load_scenario
from tests.support.deployments import ROOT
from tests.support.lab import Lab

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]

SMOKE = ROOT / "loadtest" / "scenarios" / "smoke.yaml"
ASIA = "203.0.113.0/24"


@pytest.mark.slow
async def test_the_smoke_scenario_holds(lab: Lab, video_id: str, tmp_path: Path) -> None:
    scenario, report = tmp_path / "smoke.yaml", tmp_path / "report.json"
    # Only this video: other tests need one that nobody has watched.
    scenario.write_text(SMOKE.read_text().replace("{zipf: 0.8}", f"{{ids: [{video_id}]}}"))
    words = ("loadtest", "run", str(scenario), "--config", str(lab.config), "--json", str(report))
    done = await asyncio.to_thread(lab.headwater, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(report.read_text())
    assert result["viewers"] == {"planned": 20, "finished": 20, "failed": 0}
    assert set(result["edges"]) == set(lab.edges)
    assert result["rungs_s"].keys() <= {"h264/240p", "h264/360p"}
    assert result["cache_status"]["edge"]["hits"] > result["cache_status"]["edge"]["misses"]
    assert not any(tier["silent"] for tier in result["nodes"].values())
    assert result["nodes"]["edge"]["requests"] >= result["requests"] > 0


async def steered_to(lab: Lab, edge: str) -> None:
    """Waits until viewers in Asia are sent to the edge again: tests after this one find the lab as it was."""
    async with asyncio.timeout(20):
        while True:
            if (await lab.resolve(f"v000.{lab.deployment.zone}", ASIA))[0] == lab.edges[edge].host:
                return
            await asyncio.sleep(0.2)


async def test_viewers_go_on_when_their_edge_dies(lab: Lab, video_id: str) -> None:
    asia = load_scenario(SMOKE).model_copy(
        update={
            "viewers": 6,
            "videos": Videos(ids=[video_id]),
            "arrival": Arrival(over="1 s"),
            "audiences": [Audience(network=ASIA)],
            "watch": Watch(least="3 s", most="3 s"),
        }
    )
    await lab.kill("sin-1")
    try:
        outcome = await run_scenario(asia, Target(lab.api, lab.deployment.dns.listen, lab.deployment, False))
    finally:
        await lab.start("sin-1")
        await steered_to(lab, "sin-1")
    assert (outcome.measures.finished, outcome.measures.failures) == (6, {})
    assert "sin-1" not in outcome.measures.edges
    assert outcome.tiers is not None
    assert outcome.tiers["edge"].silent == ("sin-1",)
