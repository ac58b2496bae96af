"""Kills the transcoder, at random moments, while it makes first windows of uploads that still go on.

    python -m tests.drills early [--rounds 30] [--within 3]

Fails when a video is not made, does not decode from its first picture to its last, or leaves something behind.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from pathlib import Path

from tests.support.earlystart import NODES, camera_clip, killed_early, small_parts
from tests.support.lab import running_lab


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="early")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--within", type=float, default=3.0, help="seconds after the parts landed in which the kill comes")
    chosen = parser.parse_args(arguments)
    return asyncio.run(_drill(chosen.rounds, chosen.within))


async def _drill(rounds: int, within_s: float) -> int:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        clip = await asyncio.to_thread(camera_clip, folder / "clip.mp4")
        async with running_lab(folder, NODES, small_parts) as lab:
            for number in range(rounds):
                after_s = random.uniform(0, within_s)
                other = clip + (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")  # no file is stored twice
                await killed_early(lab, other, after_s, folder / f"out-{number}")
                print(f"round {number + 1}: killed after {after_s:.2f} s, the video is whole")
    print(f"{rounds} kills, {rounds} videos")
    return 0
