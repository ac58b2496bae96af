"""Rotates the signing key again and again under viewers of the real origin; prints who was answered what, by key.

    python -m tests.drills rotation [--rotations 6] [--viewers 12] [--write]

The whole lab runs: real signer, origin, shields and edges, and one real video. Viewers ask the playback API for a grant and play
all of the video through each edge in turn, half of them with a new grant for each round, half with that of their beginning. Keys
alternate between Ed25519 and HMAC. During every third rotation control is killed, during another third the origin's API. Fails
when a viewer is refused, when an answer is not whole, or when nobody was served by a key that a rotation brought.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from headwater.settings.deployment import nodes_of
from headwater.settings.load import load_deployment
from signer.grant import decode
from signer.keyring import KeyRing, signing_one
from tests.support.asking import ask_until_true
from tests.support.deployments import LAB
from tests.support.lab import Lab, running_lab
from tests.support.media import make_clip
from tests.support.telling import Telling
from tests.support.viewing import Viewer

ALGORITHMS = ("hmac-sha256", "ed25519")
KILLED = ("", "control", "origin-api")
ROTATE_S = 60.0
SEEN_AT_LEAST = 50


class Viewers:
    """`answers` counts by key id and status; `away` are questions to an API that was just killed."""

    def __init__(self, lab: Lab, video_id: str) -> None:
        self._lab = lab
        self._video_id = video_id
        self.answers: Counter[tuple[str, int]] = Counter()
        self.short = 0
        self.away = 0

    async def watch(self, *, anew: bool) -> None:
        manifest = await self._manifest()
        while True:
            if anew:
                manifest = await self._manifest()
            for edge in self._lab.edges.values():
                await self._play(manifest, edge.url, Viewer(self._lab, edge))

    async def _play(self, manifest: str, edge: str, viewer: Viewer) -> None:
        key_id = decode(urlsplit(manifest).path.split("/")[1])[0].key_id
        for url in await viewer.urls_of(manifest):
            response = (await viewer.get(url)).response
            self.answers[key_id, response.status_code] += 1
            self.short += len(response.content) != int(response.headers.get("Content-Length", -1))

    async def _manifest(self) -> str:
        """The playback URL, asked for until the API answers, as a page does."""
        while True:
            try:
                playback = await self._lab.ask(f"/api/v1/videos/{self._video_id}/playback", params={"via": "address"})
                return str(playback["hls"])
            except httpx.HTTPError:
                self.away += 1
                await asyncio.sleep(0.2)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rotation")
    parser.add_argument("--rotations", type=int, default=6)
    parser.add_argument("--viewers", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="into docs/operations.md")
    chosen = parser.parse_args(arguments)
    tell = Telling()
    with tempfile.TemporaryDirectory() as folder:
        failed = asyncio.run(_drill(Path(folder), tell, chosen.rotations, chosen.viewers))
    if chosen.write:
        tell.put_into("operations.md", "rotation")
    return failed


async def _drill(folder: Path, tell: Telling, rotations: int, count: int) -> int:
    nodes = list(nodes_of(load_deployment(LAB)))
    async with running_lab(folder, nodes) as lab:
        video_id = await lab.upload(make_clip(folder / "clip.mp4", seconds=4, width=320, height=180))
        await lab.whole_video(video_id)
        viewers = Viewers(lab, video_id)
        ring = KeyRing(lab.deployment.data / lab.deployment.signing.keys)
        (first,) = ring.keys()
        brought = [first.key_id]
        tasks = [asyncio.create_task(viewers.watch(anew=place % 2 == 0)) for place in range(count)]
        try:
            for turn in range(rotations):
                key_id, took_s = await _rotate(lab, ring, ALGORITHMS[turn % 2], KILLED[turn % 3])
                brought.append(key_id)
                await ask_until_true(lambda: _served(viewers, tasks, brought[-1]), ROTATE_S)
                killed = f", {KILLED[turn % 3]} killed meanwhile" if KILLED[turn % 3] else ""
                tell(f"{brought[-1]} signs after {took_s:.1f} s{killed}; load average {os.getloadavg()[0]:.0f}")
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [one for one in ended if not isinstance(one, asyncio.CancelledError)]
    for key_id in brought:
        by_status = {status: times for (key, status), times in viewers.answers.items() if key == key_id}
        tell(f"grants of {key_id}: {by_status}")
    refused = sum(times for (_, status), times in viewers.answers.items() if status != 200)
    tell(f"{sum(viewers.answers.values())} answers, {refused} refused, {viewers.short} short; {failures or 'no viewer gave up'}")
    return 1 if refused or viewers.short or failures else 0


async def _rotate(lab: Lab, ring: KeyRing, algorithm: str, killed: str) -> tuple[str, float]:
    """The key that signs then, and the seconds that the command took; it is repeated when something was killed meanwhile."""
    began = time.monotonic()
    command = ("keys", "rotate", "--algorithm", algorithm, "--patience", "5 s", "--config", str(lab.config))
    before = signing_one(ring.keys())
    rotating = asyncio.create_task(asyncio.to_thread(lab.headwater, *command))
    if killed:
        await lab.kill(killed)
        await rotating
        await lab.start(killed)
    else:
        await rotating
    now = signing_one(ring.keys())
    if now is None or before is None or now.key_id == before.key_id:
        done = await asyncio.to_thread(lab.headwater, *command)
        assert done.returncode == 0, done.stdout + done.stderr
        now = signing_one(ring.keys())
    assert now is not None
    return now.key_id, time.monotonic() - began


async def _served(viewers: Viewers, tasks: list[asyncio.Task[None]], key_id: str) -> bool:
    for task in tasks:
        if task.done():
            task.result()
    return viewers.answers[key_id, 200] >= SEEN_AT_LEAST
