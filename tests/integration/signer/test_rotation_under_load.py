"""Keys rotate by one command while viewers play with grants made a moment ago: not one is refused."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import CompletedProcess

from headwater.rules.names import parse_video_id
from origin.api.playability import video_grant
from signer.grant import KeyState, mint
from signer.keyring import KeyRing, signing_one
from tests.support.asking import ask_until_true
from tests.support.goingon import going_on
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent

NODES = ("control", "shield-1", "shield-2", "fra-1", "iad-1")
VIDEO = parse_video_id("dQw4w9WgXcQ")
BODY = b"x" * 2000


async def site(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(header("200 OK", 'ETag: "1"', "Cache-Control: max-age=3600", f"Content-Length: {len(BODY)}") + BODY)
    await writer.drain()


class Viewers:
    """At each edge one who begins anew with every request, and one who goes on with the grant of the beginning. `answers` counts
    by the key that signed and the status."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._ring = KeyRing(lab.deployment.data / lab.deployment.signing.keys)
        self.answers: Counter[tuple[str, int]] = Counter()

    def grant(self) -> tuple[str, str]:
        """(key id, grant), signed as the origin does."""
        key = self._ring.signing_key()
        return key.key_id, mint(video_grant(VIDEO, key.key_id, int(time.time()) + 3600), key)

    async def watch(self, edge: str, *, anew: bool) -> None:
        key_id, grant = self.grant()
        while True:
            if anew:
                key_id, grant = self.grant()
            answer = await self._lab.http.get(f"{self._lab.edges[edge].url}/{grant}/videos/{VIDEO}/h264/720p/init.mp4")
            self.answers[key_id, answer.status_code] += 1
            await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(lab: Lab) -> AsyncIterator[Viewers]:
    viewers = Viewers(lab)
    async with going_on(viewers.watch(edge, anew=anew) for edge in ("fra-1", "iad-1") for anew in (True, False)):
        yield viewers


async def rotate(lab: Lab, *options: str) -> CompletedProcess[str]:
    return await asyncio.to_thread(lab.headwater, "keys", "rotate", *options, "--config", str(lab.config))


async def test_a_rotation_under_load_refuses_nobody_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    async with scripted_parent(site) as origin:

        def change(content: JsonObject) -> None:
            content["properties"]["video"] |= {"parent": origin.address.url}

        async with running_lab(tmp_path, NODES, change) as lab, watching(lab) as viewers:
            ring = KeyRing(lab.deployment.data / lab.deployment.signing.keys)
            (first,) = ring.keys()
            done = await rotate(lab)
            assert done.returncode == 0, done.stderr
            assert f"{first.key_id} still verifies" in done.stdout
            second = signing_one(ring.keys())
            assert second is not None
            assert second.key_id != first.key_id

            await lab.kill("control")  # in the middle of the next one
            stopped = await rotate(lab, "--patience", "1 s")
            assert stopped.returncode == 2
            assert "The old key signs on" in stopped.stderr
            keys = ring.keys()
            (waiting,) = [key for key in keys if key.state is KeyState.NEXT]
            await lab.start("control")
            done = await rotate(lab, "--algorithm", "hmac-sha256")
            assert done.returncode == 0, done.stderr
            third = signing_one(ring.keys())
            assert third is not None
            assert third.key_id == waiting.key_id
            await seen(viewers, third.key_id)
    assert {status for _, status in viewers.answers} == {200}, viewers.answers
    assert {key for key, _ in viewers.answers} == {first.key_id, second.key_id, third.key_id}


async def seen(viewers: Viewers, key_id: str) -> None:
    """Returns when viewers have had a hundred answers to grants of that key."""

    async def enough() -> bool:
        return viewers.answers[key_id, 200] >= 100

    await ask_until_true(enough)
