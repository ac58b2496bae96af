"""Bounded loads under real traffic: viewers of one region ask more than its POP may carry; prints who carried what, who moved.

    python -m tests.drills loads [--write] [--viewers 60] [--scale 1]     (--write puts the result into docs/steering.md)

Two edges in one POP and one in another region, real processes with small capacities, before a site that has every segment. Each
viewer has a video and fetches a segment of it a second; where from, it asks our DNS each TTL, as a resolver would. There are
three phases: half of what the POP may carry, 1.3 times that, half again. Fails when buckets move in the first phase; when at
the end of the overload an edge still sends more than its capacity, by more than what one of 50 viewers asks; when a bucket goes
to and fro (passed on more than once); when some have not come back at the end; or when a request fails.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from bench.placing import placed
from headwater.rules.names import bucket_of, logical_host, video_id_from_bits
from headwater.runtime.nodetoken import NODE_HEADER, read_token
from headwater.settings.snapshot import Snapshot
from tests.support.deployments import ROOT
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent

SUBNET = "192.0.2.0/24"  # of region eu
POP_EDGES = ("fra-1", "fra-2")
NODES = ("control", "dns", "shield-1", *POP_EDGES, "iad-1")
CAPACITY_BPS = 20_000_000
TTL_S = 2.0
BODY_PARTS = 64
SEGMENTS = 20
LOW, HIGH = 0.5, 1.3
ONE_VIEWER = HIGH * len(POP_EDGES) / 50  # what a bucket weighs here: nobody can be nearer to a bound
PHASES = ((LOW, 60.0), (HIGH, 160.0), (LOW, 110.0))  # (part of what the POP may carry, seconds); loads are smoothed over 30 s


@dataclass
class Second:
    """What was seen in one second: bits sent to viewers by edge, and the buckets passed on by edges and by POPs."""

    at: float
    phase: int
    bps: dict[str, float]
    edge_passes: set[tuple[str, int]]
    pop_passes: set[tuple[str, int]]


@dataclass
class Course:
    seconds: list[Second] = field(default_factory=list)
    failed: int = 0

    def of_phase(self, phase: int) -> list[Second]:
        return [second for second in self.seconds if second.phase == phase]

    def times_passed(self) -> Counter[tuple[str, int]]:
        """How often each (member, bucket) began to be passed on."""
        began: Counter[tuple[str, int]] = Counter()
        before: set[tuple[str, int]] = set()
        for second in self.seconds:
            now = second.edge_passes | second.pop_passes
            began.update(now - before)
            before = now
        return began


class Viewers:
    """`share` says which part of them watches now; `sent` counts bits by the edge that sent them."""

    def __init__(self, lab: Lab, count: int, body_bytes: int) -> None:
        self.share = 0.0
        self.sent: Counter[str] = Counter()
        self.failed = 0
        self._lab = lab
        self._body_bytes = body_bytes
        self._count = count
        self._names = {address.host: name for name, address in lab.edges.items()}
        self._port = next(iter(lab.edges.values())).port

    async def watch(self) -> None:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20), connector=aiohttp.TCPConnector(limit=0)) as http,
            asyncio.TaskGroup() as viewers,
        ):
            for place in range(self._count):
                viewers.create_task(self._one(http, place))

    async def _one(self, http: aiohttp.ClientSession, place: int) -> None:
        video = video_id_from_bits(place.to_bytes(8, "big"))
        host = logical_host(bucket_of(video), self._lab.deployment.zone)
        address, asked_at, segment = "", 0.0, place
        await asyncio.sleep(place / self._count)
        while True:
            began = time.monotonic()
            if place < self.share * self._count:
                if began - asked_at > TTL_S:
                    address, asked_at = (await self._lab.resolve(host, SUBNET))[0], began
                segment = (segment + 1) % SEGMENTS
                await self._fetch(http, f"http://{address}:{self._port}/videos/{video}/h264/720p/segment_{segment:05d}.m4s", host)
            await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))

    async def _fetch(self, http: aiohttp.ClientSession, url: str, host: str) -> None:
        try:
            async with http.get(url, headers={"Host": f"{host}:{self._port}"}) as answer:
                size = len(await answer.read())
                whole = answer.status == 200 and size == self._body_bytes
        except (aiohttp.ClientError, TimeoutError):
            whole, size = False, 0
        self.failed += not whole
        self.sent[self._names[url.split("/")[2].partition(":")[0]]] += size * 8


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="loads")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--viewers", type=int, default=60)
    parser.add_argument("--scale", type=float, default=1.0, help="of the phases' lengths")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        course = asyncio.run(_run(Path(folder), chosen.viewers, chosen.scale))
    bad = list(_troubles(course))
    told = "\n".join([*_table(course), "", *(f"Not as it should be: {trouble}." for trouble in bad)])
    print(told)
    if chosen.write:
        placed(ROOT / "docs" / "steering.md", "bounded loads", f"{told}\n")
    return 1 if bad else 0


async def _run(folder: Path, viewers: int, scale: float) -> Course:
    body = bytes(int(HIGH * len(POP_EDGES) * CAPACITY_BPS / viewers / 8))

    async def segment(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", 'ETag: "1"', "Cache-Control: max-age=3600", f"Content-Length: {len(body)}") + body)
        await writer.drain()

    async with scripted_parent(segment) as origin:

        def change(content: JsonObject) -> None:
            content["dns"]["ttl"] = f"{TTL_S:g} s"
            content["properties"]["video"] |= {"signed": False, "parent": origin.address.url}
            del content["pops"]["sin"], content["shields"]["shield-2"]
            pop = content["pops"]["fra"]["edges"]
            port = pop["fra-1"]["listen"].rpartition(":")[2]
            pop["fra-2"] = {"listen": f"127.0.1.2:{port}", "admin": f"127.0.1.2:{pop['fra-1']['admin'].rpartition(':')[2]}"}
            for of_pop in content["pops"].values():
                for edge in of_pop["edges"].values():
                    edge["capacity"] = f"{CAPACITY_BPS // 1_000_000} Mbit/s"

        async with running_lab(folder, NODES, change) as lab:
            course = Course()
            watching = Viewers(lab, viewers, len(body))
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(watching.watch())
                for phase, (part, lasts_s) in enumerate(PHASES):
                    watching.share = part / HIGH
                    await _record(lab, watching, course, phase, lasts_s * scale)
                task.cancel()
            course.failed = watching.failed
            return course


async def _record(lab: Lab, viewers: Viewers, course: Course, phase: int, lasts_s: float) -> None:
    ends = time.monotonic() + lasts_s
    headers = {NODE_HEADER: read_token(lab.deployment.data, "dns")}
    url = f"{lab.deployment.control.listen.url}/api/v1/snapshot?after=0&wait=0&node=dns"
    before, at = Counter(viewers.sent), time.monotonic()
    while time.monotonic() < ends:
        await asyncio.sleep(1.0)
        state = Snapshot.model_validate_json((await lab.http.get(url, headers=headers)).content).steering_state
        now, sent = time.monotonic(), Counter(viewers.sent)
        bps = {edge: (sent[edge] - before[edge]) / (now - at) for edge in lab.edges}
        passes = ({(name, one) for name, all_of in by.items() for one in all_of} for by in (state.edge_passes, state.pop_passes))
        course.seconds.append(Second(now, phase, bps, *passes))
        before, at = sent, now


def _mean(seconds: list[Second], edge: str) -> float:
    return sum(second.bps[edge] for second in seconds) / max(1, len(seconds)) / CAPACITY_BPS


def _latest(seconds: list[Second], lasts_s: float) -> list[Second]:
    return [second for second in seconds if second.at > seconds[-1].at - lasts_s]


def _troubles(course: Course) -> Iterator[str]:
    low, high, after = (course.of_phase(phase) for phase in range(3))
    if any(second.edge_passes or second.pop_passes for second in low):
        yield "buckets moved while everything fitted"
    settled = _latest(high, 30)
    for edge in POP_EDGES:
        if _mean(settled, edge) > 1 + ONE_VIEWER:
            yield f"{edge} sends {_mean(settled, edge):.0%} of its capacity at the end of the overload"
    often = {key: times for key, times in course.times_passed().items() if times > 1}
    if often:
        yield f"went to and fro: {often}"
    if after[-1].edge_passes or after[-1].pop_passes:
        yield f"{len(after[-1].edge_passes | after[-1].pop_passes)} buckets have not come back"
    if course.failed:
        yield f"{course.failed} requests failed"


def _table(course: Course) -> Iterator[str]:
    low, high, after = (course.of_phase(phase) for phase in range(3))
    first = next((second.at - high[0].at for second in high if second.pop_passes or second.edge_passes), None)
    back = next((second.at - after[0].at for second in after if not second.pop_passes and not second.edge_passes), None)
    yield (
        f"{datetime.now(UTC):%Y-%m-%d}, `make drills DRILL=loads`: {len(POP_EDGES)} edges of {CAPACITY_BPS // 1_000_000} Mbit/s "
        f"in POP fra, one in iad; load average {os.getloadavg()[0]:.0f}. Parts of each edge's capacity that it sent:"
    )
    yield ""
    yield "| | fra-1 | fra-2 | iad-1 | passed on by edges | by POP fra |"
    yield "|---|---|---|---|---|---|"
    for name, seconds in (
        ("half of what fra may carry", low),
        ("1.3 times that, the first 30 s", [one for one in high if one.at <= high[0].at + 30]),
        ("the last 30 s of it", _latest(high, 30)),
        ("half again, the first 30 s", [one for one in after if one.at <= after[0].at + 30]),
        ("the last 30 s of it", _latest(after, 30)),
    ):
        shares = " | ".join(f"{_mean(seconds, edge):.0%}" for edge in (*POP_EDGES, "iad-1"))
        yield f"| {name} | {shares} | {len(seconds[-1].edge_passes)} | {len(seconds[-1].pop_passes)} |"
    yield ""
    passed = course.times_passed()
    yield (
        f"The first buckets were passed on {'never' if first is None else f'{first:.0f} s'} after the overload began; the last "
        f"came back {'never' if back is None else f'{back:.0f} s'} after it ended. {len(passed)} were passed on, "
        f"{sum(times > 1 for times in passed.values())} of them more than once; {course.failed} requests failed."
    )
