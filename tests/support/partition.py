"""Control cut off from all other nodes by links that hang, and what must hold before, meanwhile and afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.asking import ask_until_true
from tests.support.halfopen import Partition, behind_links
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent

CACHES = ("shield-1", "shield-2", "fra-1", "iad-1")
NODES = (*CACHES, "dns")
VIEWER_S = 5.0  # nobody who watches waits longer than that, whatever is cut


@dataclass
class Site:
    version: int = 1

    async def script(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = str(self.version).encode()
        writer.write(header("200 OK", "Cache-Control: max-age=3600", f"Content-Length: {len(body)}") + body)
        await writer.drain()


@dataclass
class Shown:
    """What a partition cost. Times are seconds: of the order that reached nobody, and from healing until all had caught up."""

    order_s: float
    missing: set[str]
    snapshot_s: float
    purge_s: float
    served: set[int]


async def partition(
    folder: Path, nodes: tuple[str, ...] = NODES, *, from_control: bool, to_control: bool, forgets: bool, lasts_s: float = 0.0
) -> Shown:
    """Runs one, with these nodes and control. `folder` is empty."""
    site = Site()
    async with scripted_parent(site.script) as parent:

        def with_site(content: JsonObject) -> None:
            shop = {"hosts": ["www.shop.test"], "paths": "/shop/", "signed": False, "parent": parent.address.url}
            content["properties"]["shop"] = shop
            del content["pops"]["sin"]
            content["steering"] = {"default_region": "eu"}

        async with running_lab(folder, (), with_site) as lab, behind_links(lab, NODES) as links:
            await lab.start("control", *nodes)
            try:
                return await _shown(lab, site, links, from_control, to_control, forgets, lasts_s)
            finally:
                links.heal(forgets=False)


async def _shown(
    lab: Lab, site: Site, links: Partition, from_control: bool, to_control: bool, forgets: bool, lasts_s: float
) -> Shown:
    assert await _seen(lab, "/shop/kept") == {1}
    links.cut(from_control=from_control, to_control=to_control)
    site.version = 2
    order = asyncio.create_task(_purge(lab))
    await _everything_serves_on(lab)
    await lab.restart("fra-1")  # a node that starts meanwhile serves by what it has
    await _everything_serves_on(lab)
    answer, order_s = await order
    _drain_iad(lab)
    version = await ask_until_true(lambda: _drained(lab))
    await asyncio.sleep(lasts_s)
    links.heal(forgets=forgets)
    healed = time.monotonic()
    running = [node for node in lab.processes if node != "control"]
    snapshot_s, purge_s = await asyncio.gather(
        _until_all(lab, running, "headwater_snapshot_version", version, healed),
        _until_all(lab, [node for node in running if node != "dns"], "headwater_purge_sequence", answer["sequence"], healed),
    )
    served = await _seen(lab, "/shop/kept")
    names = {one["node"] for one in answer["missing"]}
    return Shown(order_s, names, snapshot_s, purge_s, served)


async def _everything_serves_on(lab: Lab) -> None:
    """What is cached, what has to be fetched through shields, and DNS."""
    async with asyncio.timeout(VIEWER_S):
        assert await _seen(lab, "/shop/kept") <= {1, 2}
        assert await _seen(lab, f"/shop/new-{time.monotonic_ns()}") == {2}
        assert await lab.resolve(f"v000.{lab.deployment.zone}", "192.0.2.0/24")


async def _seen(lab: Lab, path: str) -> set[int]:
    answers = [
        await lab.http.get(f"{lab.edges[edge].url}{path}", timeout=VIEWER_S) for edge in ("fra-1", "iad-1") if lab.runs(edge)
    ]
    return {int(answer.text) for answer in answers}


async def _purge(lab: Lab) -> tuple[JsonObject, float]:
    """Control's answer, and after how many seconds it came."""
    began = time.monotonic()
    url = f"{lab.deployment.control.listen.url}/api/v1/purge"
    answer = await lab.http.post(url, json={"prefix": "/shop/"}, headers=lab.operator)
    answer.raise_for_status()
    told: JsonObject = json.loads(answer.text)
    return told, time.monotonic() - began


def _drain_iad(lab: Lab) -> None:
    """An edit of control's file."""
    file = lab.configs["control"]
    content = yaml.safe_load(file.read_text())
    content["pops"]["iad"]["weight"] = 0
    file.write_text(yaml.safe_dump(content, sort_keys=False))


async def _drained(lab: Lab) -> int | None:
    """The version that control has published with the edit in it."""
    tree = (await lab.http.get(f"{lab.deployment.control.listen.url}/api/v1/status", headers=lab.operator)).json()
    weights = {pop["name"]: pop["weight"] for region in tree["regions"] for pop in region["pops"]}
    return int(tree["version"]) if weights["iad"] == 0 else None


async def _until_all(lab: Lab, nodes: list[str], metric: str, least: float, since: float) -> float:
    """Seconds after `since` at which each of the nodes says so much."""

    async def all_say() -> bool:
        return min(await asyncio.gather(*(lab.metric(node, metric) for node in nodes))) >= least

    await ask_until_true(all_say, 60)
    return time.monotonic() - since
