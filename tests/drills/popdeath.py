"""Kills each POP of a whole lab in turn, under viewers of its own region, and prints what each death cost.

    python -m tests.drills popdeath [--viewers 40] [--ttl "20 s"] [--rounds 1]

Fails when a play fails that began after health delay and TTL had passed.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from headwater.settings.deployment import nodes_of
from headwater.settings.load import load_deployment
from tests.support.asking import ask_until_true
from tests.support.deployments import LAB
from tests.support.lab import Lab, running_lab
from tests.support.media import make_clip
from tests.support.popdeath import kill_pop

SUBNETS = {"fra-1": "192.0.2.0/24", "iad-1": "198.51.100.0/24", "sin-1": "203.0.113.0/24"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="popdeath")
    parser.add_argument("--viewers", type=int, default=40)
    parser.add_argument("--ttl", default="20 s", help="dns.ttl of the lab")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args(arguments)
    return asyncio.run(_drill(chosen.viewers, chosen.ttl, chosen.rounds))


async def _steered_back(lab: Lab, edge: str, subnet: str) -> None:
    async def named_first() -> bool:
        return (await lab.resolve(f"v000.{lab.deployment.zone}", subnet))[0] == lab.edges[edge].host

    await ask_until_true(named_first, 60)


async def _drill(viewers: int, ttl: str, rounds: int) -> int:
    def changes(content: dict[str, Any]) -> None:
        content["dns"]["ttl"] = ttl

    failed_late = 0
    with tempfile.TemporaryDirectory() as folder:
        nodes = list(nodes_of(load_deployment(LAB)))
        async with running_lab(Path(folder), nodes, changes) as lab:
            video_id = await lab.upload(make_clip(Path(folder) / "clip.mp4", seconds=4, width=320, height=180))
            await lab.whole_video(video_id)
            for _ in range(rounds):
                for edge, subnet in SUBNETS.items():
                    death = await kill_pop(lab, edge, subnet, video_id, viewers=viewers, after_s=5.0)
                    print(death.line(), flush=True)
                    failed_late += len(death.failed_after_bound)
                    await lab.start(edge)
                    await _steered_back(lab, edge, subnet)
    return 1 if failed_late else 0
