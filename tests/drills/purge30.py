"""Purges at thirty real edges and two shields on one machine, and prints how long the last acknowledgement took.

    python -m tests.drills purge30 [--edges 30] [--purges 300] [--write]

Each purge is timed from the order's request to control until its answer, which comes when the last node has acknowledged (or is
known to be missing). One node is away for a while meanwhile: it must be named as missing, and replay before it serves. Fails
when a node is missing that runs, when p99 is above 150 ms, or when what was purged is served.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any, Final

import httpx

from tests.support.deployments import free_port
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent
from tests.support.telling import Telling

BOUND_MS: Final = 150.0
EDGES_A_POP: Final = 3
AWAY: Final = "edge-02"
STARTED_AT_ONCE: Final = 3
IDLE_S: Final = 15.0
PURGES_COSTED: Final = 100


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="purge30")
    parser.add_argument("--edges", type=int, default=30)
    parser.add_argument("--purges", type=int, default=300)
    parser.add_argument("--enrolled", action="store_true", help="orders over mutual TLS, as in a deployment with enrolment")
    parser.add_argument("--write", action="store_true", help="into docs/purging.md")
    chosen = parser.parse_args(arguments)
    tell = Telling()
    with tempfile.TemporaryDirectory() as folder:
        failed = asyncio.run(_drill(Path(folder), tell, chosen.edges, chosen.purges, enrolled=chosen.enrolled))
    if chosen.write:
        tell.put_into("purging.md", "purge30")
    return failed


def many_edges(count: int, site: str) -> Callable[[JsonObject], None]:
    """`count` edges in POPs of three, all in one region, before one ordinary site."""

    def change(content: JsonObject) -> None:
        pops: dict[str, Any] = {}
        for n in range(count):
            host = f"127.0.{10 + n}.1"
            listen, admin = f"{host}:{free_port(host)}", f"{host}:{free_port(host)}"
            edges = pops.setdefault(f"pop-{n // EDGES_A_POP:02}", {"region": "eu", "edges": {}})["edges"]
            edges[f"edge-{n:02}"] = {"listen": listen, "admin": admin, "cache": {"ram": "32 MiB", "disk": "64 MiB"}}
        content["pops"] = pops
        content["properties"]["site"] = {"hosts": ["www.site.test"], "paths": "/site/", "signed": False, "parent": site}

    return change


class _Site:
    def __init__(self) -> None:
        self.version = 0

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = str(self.version).encode()
        fields = (f'ETag: "{self.version}"', "Cache-Control: max-age=3600", f"Content-Length: {len(body)}")
        writer.write(header("200 OK", *fields) + body)
        await writer.drain()


async def _drill(folder: Path, tell: Telling, edges: int, purges: int, *, enrolled: bool) -> int:
    site = _Site()
    async with (
        scripted_parent(site.answer) as parent,
        running_lab(folder, ["control", "shield-1", "shield-2"], many_edges(edges, parent.address.url), enrolled=enrolled) as lab,
    ):
        names = list(lab.edges)
        for start in range(0, edges, STARTED_AT_ONCE):
            await lab.start(*names[start : start + STARTED_AT_ONCE])
        tell(f"{edges} edges and 2 shields run, a process each; load average {os.getloadavg()[0]:.1f}")
        tell(await _costs(lab))
        times_ms, bad = await _purge_often(lab, site, purges)
        tell(
            f"{purges} purges, ms from the order to the last acknowledgement: p50 {_quantile(times_ms, 0.5):.0f}, "
            f"p90 {_quantile(times_ms, 0.9):.0f}, p99 {_quantile(times_ms, 0.99):.0f}, longest {max(times_ms):.0f}; "
            f"load average {os.getloadavg()[0]:.1f}; {bad} missing or served after all",
        )
        bad += await _away(lab, tell, site)
    return 1 if bad or _quantile(times_ms, 0.99) > BOUND_MS else 0


async def _purge_often(lab: Lab, site: _Site, purges: int) -> tuple[list[float], int]:
    """(ms of each purge, nodes that were missing or served what was purged)."""
    times_ms: list[float] = []
    bad = 0
    edges = list(lab.edges.values())
    for n in range(purges):
        edge = edges[n % len(edges)]
        await _seen(lab, edge.url)
        site.version += 1
        began = time.perf_counter()
        answer = await _purge(lab)
        times_ms.append((time.perf_counter() - began) * 1000)
        bad += len(answer["missing"]) + (await _seen(lab, edge.url) != site.version)
    return times_ms, bad


def cpu_s(lab: Lab) -> dict[str, float]:
    """The CPU seconds that each node's process has used, in all its threads."""
    return {node: _cpu_of(process.pid) for node, process in lab.processes.items() if process.alive}


def _cpu_of(pid: int) -> float:
    """Of the scheduler's own count, in nanoseconds: /proc/PID/stat counts ticks, which short work slips between."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


async def _costs(lab: Lab) -> str:
    """CPU ms an order, above what the nodes take when nothing is asked of them."""
    began, before = time.monotonic(), cpu_s(lab)
    await asyncio.sleep(IDLE_S)
    idle = {node: (used - before[node]) / (time.monotonic() - began) for node, used in cpu_s(lab).items()}
    began, before = time.monotonic(), cpu_s(lab)
    for _ in range(PURGES_COSTED):
        await _purge(lab)
    took_s = time.monotonic() - began
    ms = {node: (used - before[node] - idle[node] * took_s) / PURGES_COSTED * 1000 for node, used in cpu_s(lab).items()}
    edges, shields = ([value for node, value in ms.items() if node.startswith(role)] for role in ("edge", "shield"))
    return (
        f"CPU ms an order: control {ms['control']:.1f}, each shield {mean(shields):.2f}, each edge {mean(edges):.2f}, "
        f"all {sum(ms.values()):.0f}; without orders, % of a core: control {100 * idle['control']:.1f}, "
        f"all {100 * sum(idle.values()):.0f}"
    )


async def _away(lab: Lab, tell: Telling, site: _Site) -> int:
    """A node that is killed is named; it comes back with nothing of what was purged meanwhile."""
    await _seen(lab, lab.edges[AWAY].url)
    await lab.kill(AWAY)
    site.version += 1
    missing = [one["node"] for one in (await _purge(lab))["missing"]]
    await lab.start(AWAY)
    served = await _seen(lab, lab.edges[AWAY].url)
    tell(f"{AWAY} was away: named as missing: {', '.join(missing) or 'nobody'}; back, it serves {served} of {site.version}")
    return int(missing != [AWAY]) + int(served != site.version)


async def _purge(lab: Lab) -> JsonObject:
    url = f"{lab.deployment.control.listen.url}/api/v1/purge"
    answer: httpx.Response = await lab.http.post(url, json={"prefix": "/site/"}, headers=lab.operator)
    answer.raise_for_status()
    told: JsonObject = answer.json()
    return told


async def _seen(lab: Lab, edge: str) -> int:
    return int((await lab.http.get(f"{edge}/site/page")).text)


def _quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all is not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
