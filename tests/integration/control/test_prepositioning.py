"""Nights of a manual clock: real edges are filled with what others watch, within bytes, once, and its use is reported."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import structlog
import yaml

from control.audit import AuditLog
from control.caches.aheadshares import ahead_shares
from control.caches.prepositioning import Prepositioning
from control.plane import ControlPlane
from control.watching.fleet import Fleet
from control.watching.traffic import read_counters
from headwater.rules.bucketload import BucketLoad, load_from
from headwater.rules.names import video_id_from_bits
from headwater.runtime.node import NodeContext
from headwater.settings.deployment import admin_address
from headwater.settings.load import load_deployment
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent

LOG = structlog.get_logger()
BODY = bytes(50_000)
VIDEOS = [video_id_from_bits(bytes([n]) * 8) for n in range(3)]
PATHS = [f"/videos/{video}/h264/360p/segment_{n:05d}.m4s" for video in VIDEOS for n in range(3)]
ALLOWED = 7  # objects that the budget of a night holds


async def site(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(header("200 OK", 'ETag: "1"', "Cache-Control: max-age=999999", f"Content-Length: {len(BODY)}") + BODY)
    await writer.drain()


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=UTC).timestamp()


class Nights:
    """Control's nightly part over a lab's edges, by a clock that is set by hand."""

    def __init__(self, lab: Lab, fleet: Fleet) -> None:
        self.lab = lab
        self.now = at("20 12:00")
        context = NodeContext("control", lab.deployment, LOG, lab.config)
        self.plane = ControlPlane(context, clock=lambda: self.now)
        self.audit = AuditLog(context.folder, LOG, clock=lambda: self.now)
        self.fleet = fleet
        self.folder: Path = context.folder

    def opened(self) -> Prepositioning:
        found = Prepositioning(self.folder, self.plane, self.fleet, self.audit, LOG, clock=lambda: self.now)
        found.start()
        return found

    async def load(self, edge: str) -> BucketLoad:
        return load_from((await self.lab.http.get(f"{admin_address(self.lab.deployment, edge).url}/load")).json())

    async def read_metrics(self, *edges: str) -> None:
        for edge in edges:
            text = (await self.lab.http.get(f"{admin_address(self.lab.deployment, edge).url}/metrics")).text
            self.plane.readings.setdefault(edge, deque()).append(read_counters(text, "edge", self.now))

    def audited(self) -> list[str]:
        return [line["detail"] + ": " + line["outcome"] for line in reversed(self.audit.last(10))]


async def test_edges_are_filled_at_night_with_what_others_watch_and_the_use_is_reported(tmp_path: Path) -> None:
    async with scripted_parent(site) as origin:

        def change(content: JsonObject) -> None:
            content["properties"]["video"] |= {"signed": False, "parent": origin.address.url}
            del content["pops"]["sin"]

        async with running_lab(tmp_path, ("control", "shield-1", "fra-1", "iad-1"), change) as lab:
            await lab.kill("control")
            # Only now: the real control, whose clock is the real one, would have begun a night of its own between two and five.
            await asyncio.to_thread(give_nights, lab)
            async with Fleet(NodeContext("control", lab.deployment, LOG, lab.config).token, LOG) as fleet:
                await the_nights(lab, Nights(lab, fleet))
        assert len(origin.asked) == len(PATHS)  # the shield, or the edge that had them, gave what was fetched ahead


def give_nights(lab: Lab) -> None:
    content = yaml.safe_load(lab.config.read_text(encoding="utf-8"))
    content["control"]["preposition"] = {
        "window": "02:00-05:00",
        "size": f"{ALLOWED * len(BODY)} B",
        "bandwidth": "1 Gbit/s",
    }
    lab.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    lab.deployment = load_deployment(lab.config)


async def the_nights(lab: Lab, nights: Nights) -> None:
    await nights.plane.begin()
    control = nights.opened()
    control.learn("fra-1", await nights.load("fra-1"))
    for path in PATHS:
        assert (await lab.http.get(f"{lab.edges['fra-1'].url}{path}")).content == BODY
    control.learn("fra-1", await nights.load("fra-1"))
    assert sum(control.demand["eu"].values()) == len(PATHS) * len(BODY)

    nights.now = at("21 01:59")
    await control.look()
    assert control.night is None
    nights.now = at("21 02:00")
    await control.look()
    assert control.night is not None
    assert control.night.done
    assert control.night.regions["us"].objects == ALLOWED
    assert control.night.by_edge == {"iad-1": ALLOWED * len(BODY)}
    nights.now = at("21 04:00")
    await control.look()  # this night is done
    assert await lab.metric("iad-1", "headwater_ahead_bytes_total", why="preposition") == ALLOWED * len(BODY)

    hits = 0
    for path in PATHS[:6]:
        answer = await lab.http.get(f"{lab.edges['iad-1'].url}{path}")
        hits += "iad-1; hit" in answer.headers["Cache-Status"]
    assert hits >= 6 - (len(PATHS) - ALLOWED)
    await nights.read_metrics("fra-1", "iad-1")
    (share,) = ahead_shares(lab.deployment, nights.plane.readings)
    assert (share.region, share.why, share.used_bytes) == ("us", "preposition", hits * len(BODY))

    control = nights.opened()  # control starts again, and knows
    nights.now = at("22 02:30")
    await control.look()
    megabytes = f"{ALLOWED * len(BODY) / 1e6:.1f} MB"
    assert nights.audited()[:2] == [
        f"night of 2026-11-21: us: {ALLOWED} objects, {megabytes} fetched ahead",
        f"night of 2026-11-21: us: of {megabytes} fetched ahead, {hits / ALLOWED:.0%} was used",
    ]
    assert control.night is not None
    assert control.night.began == at("22 02:00")
    assert json.dumps(control.told())
