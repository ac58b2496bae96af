"""Stops the whole lab and starts it again in one order after another; prints how long each order took until all was well.

    python -m tests.drills restarts [--orders 12] [--seed 7] [--write]

The first order is the config's, the second its reverse, so that of any two nodes each has been started before the other; the
rest are drawn. Every second time all are killed instead of stopped. All is well when every node is healthy and lives by control's
snapshot, DNS answers, and the whole video, purged from every cache before, plays through every edge. Fails when that takes more
than BOUND_S.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

from headwater.runtime.nodeprocess import NodeProcess
from headwater.settings.deployment import nodes_of
from headwater.settings.load import load_deployment
from tests.support.asking import ask_until_true
from tests.support.deployments import LAB
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.media import make_clip
from tests.support.telling import Telling
from tests.support.viewing import Viewer, media_only

BOUND_S = 60.0
BETWEEN_STARTS_S = 0.3  # an interpreter's start: the next node begins while this one looks for those that are not there


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="restarts")
    parser.add_argument("--orders", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="into docs/operations.md")
    chosen = parser.parse_args(arguments)
    tell = Telling()
    with tempfile.TemporaryDirectory() as folder:
        failed = asyncio.run(_drill(Path(folder), tell, chosen.orders, random.Random(chosen.seed)))
    if chosen.write:
        tell.put_into("operations.md", "restarts")
    return failed


def orders_of(nodes: list[str], count: int, drawn: random.Random) -> list[list[str]]:
    return [nodes, nodes[::-1], *(drawn.sample(nodes, len(nodes)) for _ in range(count - 2))][:count]


async def _drill(folder: Path, tell: Telling, count: int, drawn: random.Random) -> int:
    nodes = list(nodes_of(load_deployment(LAB)))
    slow = 0
    async with running_lab(folder, nodes) as lab:
        video_id = await lab.upload(make_clip(folder / "clip.mp4", seconds=4, width=320, height=180))
        await lab.whole_video(video_id)
        version = 0
        for place, order in enumerate(orders_of(nodes, count, drawn)):
            number = signal.SIGKILL if place % 2 else signal.SIGTERM
            await lab.kill(*nodes, number=number)
            began = time.monotonic()
            for node in order:
                lab.processes[node] = NodeProcess.start(node, lab.config, lab.deployment.data)
                await asyncio.sleep(BETWEEN_STARTS_S)
            await lab.start(*order)
            healthy_s = time.monotonic() - began
            version = await ask_until_true(partial(_all_current, lab, version), BOUND_S)
            await _plays_everywhere(lab, video_id)
            took_s = time.monotonic() - began
            slow += took_s > BOUND_S
            tell(
                f"{number.name}, then {' '.join(order)}: healthy after {healthy_s:.1f} s, all well after {took_s:.1f} s; "
                f"load average {os.getloadavg()[0]:.0f}",
            )
    tell(f"{count} orders, {slow} slower than {BOUND_S:g} s")
    return 1 if slow else 0


async def _all_current(lab: Lab, least: int) -> int | None:
    """The version by which every node lives, when it is later than `least` and nobody is down."""
    answer = await lab.http.get(f"{lab.deployment.control.listen.url}/api/v1/status", headers=lab.operator)
    tree: JsonObject = answer.json()
    well = all(node["health"] == "up" and node["current"] for node in tree["nodes"])
    return int(tree["version"]) if well and tree["version"] > least else None


async def _plays_everywhere(lab: Lab, video_id: str) -> None:
    url = f"{lab.deployment.control.listen.url}/api/v1/purge"
    purged = (await lab.http.post(url, json={"video": video_id}, headers=lab.operator)).json()
    assert not purged["missing"], purged
    assert await lab.resolve(f"v000.{lab.deployment.zone}")
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback", params={"via": "address"})
    for edge in lab.edges.values():
        assert media_only(await Viewer(lab, edge).play(playback["hls"]))
