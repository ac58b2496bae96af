"""Kills a real edge at random moments while it fills its store, and looks at everything that it serves afterwards.

    python -m tests.faults.edge_kills 500

Every body is made from its path alone, so that whoever asks knows each byte. An edge is started over the folder that the
killed one left; clients ask it for more objects than its budget holds, so that it serves, fills, writes and evicts at once;
at a random moment it gets SIGKILL. Larger objects are kept in slices; some clients ask for parts, some read slowly. What a
client got whole is compared byte by byte, and so is what one got of a body that a kill broke off.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp
import yaml

from headwater.runtime.nodetoken import read_token
from headwater.settings.load import load_deployment
from tests.support.deployments import ROOT, lab_config
from tests.support.lab import JsonObject
from tests.support.scriptedparent import Asked, header, scripted_parent

EDGE = "fra-1"
OBJECTS = 150
CLIENTS = 8
LARGEST_BYTES = 600_000
SLICES = {"above": "150 KiB", "size": "64 KiB", "ahead": 2}
PARTS, SLOW = 0.3, 0.2  # of all questions
SLOW_READ_BYTES, SLOW_PAUSE_S = 24_000, 0.01
LIVES_AT_MOST_S = 1.0  # under load, until it is killed


@dataclass(slots=True)
class Tally:
    kills: int = 0
    whole: int = 0
    parts: int = 0
    broken: int = 0
    hits: int = 0
    damaged: int = 0
    cut_off: int = 0
    refused: int = 0
    over_budget: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: {self.whole} bodies and {self.parts} parts compared, {self.hits} of them from the store, and"
            f" {self.broken} beginnings of what a kill broke off; {self.damaged} damaged or short, {self.cut_off} visibly cut off"
            f" before a kill, {self.refused} error answers, budget exceeded {self.over_budget} times"
        )


def body_of(path: str) -> bytes:
    """Bytes that follow from the path: from 1 to LARGEST_BYTES, small ones more often."""
    seed = hashlib.sha256(path.encode()).digest()
    size = 1 + int(LARGEST_BYTES * (int.from_bytes(seed[:4], "big") / 2**32) ** 2)
    return hashlib.shake_128(seed).digest(size)


async def serve(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """The parent: in several writes, so that a kill finds fills halfway."""
    body = body_of(asked.line.split(" ")[1])
    fields = ["Cache-Control: max-age=31536000, immutable", 'ETag: "v1"', "Accept-Ranges: bytes"]
    status, wanted = "200 OK", re.match(r"bytes=(\d+)-(\d*)", asked.fields.get("range", ""))
    if wanted is not None and int(wanted[1]) < len(body):
        first, last = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
        status = "206 Partial Content"
        fields.append(f"Content-Range: bytes {first}-{last}/{len(body)}")
        body = body[first : last + 1]
    writer.write(header(status, *fields, f"Content-Length: {len(body)}"))
    for at in range(0, len(body), 100_000):
        writer.write(body[at : at + 100_000])
        await writer.drain()


class Forker:
    """A process that has imported all that an edge needs and forks one for each line it reads: no second of imports a kill."""

    def __init__(self, config: Path, errors: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKER, EDGE, str(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
        )  # fmt: skip

    def fork(self) -> int:
        """The pid of a new edge. Blocking."""
        return int(self._say("fork"))

    def kill(self, pid: int) -> None:
        """Returns when it is gone. Blocking."""
        self._say(f"kill {pid}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _say(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the forker ended"
        return answer


FORKER = """
import os, signal, sys
from pathlib import Path
from headwater.cli.node import node_main
import headwater.runtime.node
from headwater.cacheproxy.store.purgefollower import PurgeFollower
from headwater.runtime.node import run_node
from headwater.settings.load import load_deployment
node, config = sys.argv[1], Path(sys.argv[2])
deployment, main = load_deployment(config), node_main("edge")
# There is no control here: nobody need wait for it before each start.
headwater.runtime.node.FIRST_SNAPSHOT_S = 0.01
PurgeFollower.first_answer.__defaults__ = (0.01,)
for line in sys.stdin:
    if line.startswith("kill"):
        pid = int(line.split()[1])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    else:
        pid = os.fork()
        if pid == 0:
            os.dup2(2, 1)
            os._exit(run_node(main, node, deployment, config))
    print(pid, flush=True)
"""


async def campaign(folder: Path, kills: int, seed: int, until_s: float = float("inf")) -> Tally:
    """Kills `kills` times, or until `until_s` seconds have passed."""
    draw, tally, began = random.Random(seed), Tally(), time.monotonic()
    budget = 12 * 1024 * 1024
    async with scripted_parent(serve) as parent:

        def change(content: JsonObject) -> None:
            content["properties"]["video"]["signed"] = False
            for shield in content["shields"].values():
                shield["listen"] = str(parent.address)
            del content["shields"]["shield-2"]
            edge = content["pops"]["fra"]["edges"][EDGE]
            edge["cache"] = {
                "ram": "1 MiB",
                "disk": f"{budget} B",
                "max_object": "1 MiB",
                "spool_in_ram": "64 KiB",
                "slices": SLICES,
            }
            edge["limits"] = {"client_connections": 0, "client_rate": 0}

        config = lab_config(folder)
        content = yaml.safe_load(config.read_text())
        change(content)
        config.write_text(yaml.safe_dump(content))
        deployment = load_deployment(config)
        read_token(deployment.data, EDGE)
        url = deployment.edge(EDGE).listen.url
        store = deployment.data / EDGE / "store"
        with (folder / "edge.log").open("wb") as errors:
            forker = Forker(config, errors)
            try:
                while tally.kills < kills and (time.monotonic() - began < until_s or tally.kills < 2):
                    pid = await asyncio.to_thread(forker.fork)
                    await one_life(url, draw, tally, lambda pid=pid: forker.kill(pid))  # type: ignore[misc]
                    tally.kills += 1
                    tally.over_budget += await asyncio.to_thread(_disk_bytes, store) > budget
            finally:
                await asyncio.to_thread(forker.close)
    return tally


async def one_life(url: str, draw: random.Random, tally: Tally, kill: Callable[[], None]) -> None:
    """Load from when the edge answers until it is killed."""
    ended = asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as client:
        await until_it_answers(client, url)
        asking = [asyncio.create_task(ask(client, url, draw, tally, ended)) for _ in range(CLIENTS)]
        await asyncio.sleep(draw.uniform(0.0, LIVES_AT_MOST_S))
        ended.set()
        await asyncio.to_thread(kill)
        await asyncio.gather(*asking)


async def until_it_answers(client: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with client.get(url + "/"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)


async def ask(client: aiohttp.ClientSession, url: str, draw: random.Random, tally: Tally, ended: asyncio.Event) -> None:
    """Asks for objects, whole or in part, fast or slowly, until the edge is gone; only then may an answer break off."""
    while True:
        path = f"/videos/{draw.randrange(OBJECTS):011d}/poster.jpg"
        expected, headers, status = body_of(path), {"Host": "v000.cdn.test"}, 200
        if draw.random() < PARTS:
            first = draw.randrange(len(expected))
            last = draw.randrange(first, len(expected))
            expected, status = expected[first : last + 1], 206
            headers["Range"] = f"bytes={first}-{last}"
        pause_s = SLOW_PAUSE_S if draw.random() < SLOW else 0.0
        body = bytearray()
        try:
            async with client.get(url + path, headers=headers) as response:
                hit = "; hit" in response.headers.get("Cache-Status", "")
                while chunk := await response.content.read(SLOW_READ_BYTES if pause_s else -1):
                    body += chunk
                    await asyncio.sleep(pause_s)
        except (aiohttp.ClientError, ConnectionError):
            tally.damaged += not expected.startswith(body)
            if ended.is_set():
                tally.broken += bool(body)
                return
            tally.cut_off += 1
            continue
        if response.status != status:
            tally.refused += 1
            continue
        tally.whole += status == 200
        tally.parts += status == 206
        tally.hits += hit
        tally.damaged += body != expected


def _disk_bytes(folder: Path) -> int:
    files = [file for name in ("objects", "drafts") for file in (folder / name).rglob("*") if file.is_file()]
    assert files or not folder.exists(), "nothing is stored where this looks"
    return sum(file.stat().st_blocks * 512 for file in files)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        print(asyncio.run(campaign(Path(made), int(sys.argv[1]), seed=int(time.time()))))
        for logged in (Path(made) / "edge.log").read_text().splitlines():
            if '"cut_off":"' in logged or "disk trouble" in logged or "fill failed" in logged:
                print(logged)
