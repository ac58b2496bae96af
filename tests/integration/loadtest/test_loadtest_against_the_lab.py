"""The smoke scenario against a lab of real processes: once as it is, once with an edge that just died."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.run import Target, run_scenario
from loadtest.scenario import Arrival, Audience, Watch, load_scenario
from tests.support.deployments import ROOT
from tests.support.lab import running_lab
from tests.support.media import make_clip

SMOKE = ROOT / "loadtest" / "scenarios" / "smoke.yaml"


def two_rungs(content: dict[str, Any]) -> None:
    """Fewer encodes: the scenario needs a choice of rungs, not all of them."""
    ladder = [{"height": height, "max_bitrate_kbps": kbps} for height, kbps in ((240, 400), (360, 900))]
    content["origin"]["transcode"] = {"ladder": ladder, "first_height": 240}


@pytest.mark.slow
async def test_the_smoke_scenario_holds_and_goes_on_when_an_edge_dies(tmp_path: Path) -> None:
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=14.0)
    report = tmp_path / "report.json"
    async with running_lab(tmp_path, changes=two_rungs) as lab:
        await lab.whole_video(await lab.upload(clip))
        words = ("loadtest", "run", str(SMOKE), "--config", str(lab.config), "--json", str(report))
        done = await asyncio.to_thread(lab.headwater, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        result = json.loads(report.read_text())
        assert result["viewers"] == {"planned": 20, "finished": 20, "failed": 0}
        assert set(result["edges"]) == set(lab.edges)
        assert set(result["rungs_s"]) == {"h264/240p", "h264/360p"} or set(result["rungs_s"]) == {"h264/360p"}
        assert result["cache_status"]["edge"]["hits"] > result["cache_status"]["edge"]["misses"] > 0
        assert not any(tier["silent"] for tier in result["nodes"].values())
        # What viewers saw is what the edges counted; nobody else asked them.
        assert result["nodes"]["edge"]["requests"] == result["requests"]

        await lab.kill("sin-1")
        asia = load_scenario(SMOKE).model_copy(
            update={
                "viewers": 6,
                "arrival": Arrival(over="1 s"),
                "audiences": [Audience(network="203.0.113.0/24")],
                "watch": Watch(least="3 s", most="3 s"),
            }
        )
        outcome = await run_scenario(asia, Target(lab.api, lab.deployment.dns.listen, lab.deployment, False))
        assert (outcome.measures.finished, outcome.measures.failures) == (6, {})
        assert "sin-1" not in outcome.measures.edges
        assert outcome.tiers is not None
        assert outcome.tiers["edge"].silent == ("sin-1",)
