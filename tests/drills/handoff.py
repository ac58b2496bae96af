"""A POP is drained under viewers, once with the warm handoff and once without: what the origin and the viewers notice.

Shields too small to hold the working set stand for shields that are cold for what a POP holds: the worst case for an origin.

    python -m tests.drills handoff [objects]
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.rules.names import video_id_from_bits
from tests.support.asking import ask_until_true
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent

NODES = ("control", "shield-1", "fra-1", "iad-1")
BODY = bytes(range(256)) * 800  # 200 kB, as a segment of a low rung
ORIGIN_S = 0.05  # what a far origin takes to answer
CONCURRENT = 16


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run showed. Times are seconds."""

    handoff: bool
    origin_requests: int
    origin_at_once: int
    hits: int
    asked: int
    median_s: float
    p99_s: float
    drain_s: float


class FarSite:
    """Answers slowly; counts how many it is asked at once."""

    def __init__(self) -> None:
        self.requests = 0
        self.at_once = 0
        self._now = 0

    async def script(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        await asyncio.sleep(ORIGIN_S)
        fields = ('ETag: "1"', "Cache-Control: max-age=3600", f"Content-Length: {len(BODY)}")
        writer.write(header("200 OK", *fields) + BODY)
        await writer.drain()
        self._now -= 1

    def reset(self) -> None:
        self.requests = self.at_once = 0


def paths(objects: int) -> list[str]:
    return [
        f"/videos/{video_id_from_bits((n // 10).to_bytes(8, 'big'))}/h264/360p/segment_{n % 10:05d}.m4s" for n in range(objects)
    ]


async def run(folder: Path, objects: int, *, handoff: bool) -> Seen:
    site = FarSite()
    async with scripted_parent(site.script) as origin:

        def change(content: JsonObject) -> None:
            size = {} if handoff else {"size": "0 B"}
            content["control"]["staging"] = {"settle": "500 ms", "ramp": "1 s", "ramp_steps": 1, "handoff": size}
            content["dns"]["ttl"] = "100 ms"
            content["properties"]["video"] |= {"signed": False, "parent": origin.address.url}
            del content["pops"]["sin"], content["shields"]["shield-2"]
            content["shields"]["shield-1"]["cache"] = {"ram": "16 MiB", "disk": "4 MiB", "max_object": "1 MiB"}

        async with running_lab(folder, NODES, change) as lab:
            await ask_all(lab, "fra-1", paths(objects))
            await until_up(lab)
            site.reset()
            began = time.monotonic()
            arguments = ("drain", "fra", "--gently", "--config", str(lab.config))
            done = await asyncio.to_thread(lab.headwater, *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            took_s = time.monotonic() - began
            print("\n".join(line for line in done.stdout.splitlines() if "fetch" in line))
            times, hits = await ask_all(lab, "iad-1", paths(objects))
            times.sort()
            return Seen(
                handoff, site.requests, site.at_once, hits, objects, times[len(times) // 2], times[int(len(times) * 0.99)], took_s
            )


async def ask_all(lab: Lab, edge: str, wanted: Sequence[str]) -> tuple[list[float], int]:
    """Seconds of each answer, and how many were hits; CONCURRENT viewers at once."""
    times: list[float] = []
    hits, waiting = 0, list(reversed(wanted))

    async def viewer() -> None:
        nonlocal hits
        while waiting:
            began = time.monotonic()
            answer = await lab.http.get(f"{lab.edges[edge].url}{waiting.pop()}")
            assert answer.content == BODY
            times.append(time.monotonic() - began)
            hits += f"{edge}; hit" in answer.headers["Cache-Status"]

    await asyncio.gather(*(viewer() for _ in range(CONCURRENT)))
    return times, hits


async def until_up(lab: Lab) -> None:
    async def up() -> bool:
        tree = (await lab.http.get(f"{lab.deployment.control.listen.url}/api/v1/status", headers=lab.operator)).json()
        return all(node["health"] == "up" and node["current"] for node in tree["nodes"] if node["name"] in NODES)

    await ask_until_true(up)


def main(arguments: Sequence[str]) -> int:
    objects = int(arguments[0]) if arguments else 600
    print(f"{objects} objects of {len(BODY) / 1e3:.0f} kB, an origin that answers in {ORIGIN_S * 1000:.0f} ms, POP fra drained")
    found = []
    for handoff in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            found.append(asyncio.run(run(Path(folder), objects, handoff=handoff)))
    print("| handoff | origin requests | at once | hits at the new edge | median | p99 | drain took |")
    print("|---|---|---|---|---|---|---|")
    for seen in found:
        cells = (
            "with" if seen.handoff else "without",
            seen.origin_requests,
            seen.origin_at_once,
            f"{seen.hits}/{seen.asked}",
            f"{seen.median_s * 1000:.0f} ms",
            f"{seen.p99_s * 1000:.0f} ms",
            f"{seen.drain_s:.1f} s",
        )
        print(f"| {' | '.join(map(str, cells))} |")
    without, with_it = found
    return 0 if with_it.origin_requests * 10 <= without.origin_requests else 1
