"""The nightly window: edges are filled with what their region will likely watch, within bytes and bandwidth, and what of it is
used is reported. What to fetch is decided by `headwater.rules.prepositioning`.

A night is done once: a control that starts again within the window goes on with what is left of each edge's bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from control.audit import NIGHTLY, AuditLog, What
from control.caches.aheadshares import ahead_shares
from control.metrics import AHEAD_USE_RATIO, PREPOSITIONED
from control.plane import ControlPlane, Kind
from control.rollouts.handoff import parts_of
from control.watching.fleet import Fleet, NoAnswer
from headwater.rules.aheaduse import Why
from headwater.rules.bucketload import BucketLoad, grown
from headwater.rules.names import BUCKETS
from headwater.rules.ownership import owners
from headwater.rules.prepositioning import EdgeFill, Hot, aged, plan_fills
from headwater.rules.warmorder import WarmOrder, WarmOutcome
from headwater.runtime.logs import Log
from headwater.runtime.wholefiles import keep_json, kept_json
from headwater.settings.preposition import Preposition
from headwater.settings.world import world_of

LOOK_S: Final = 20.0
KEEP_S: Final = 600.0  # so much of what was learnt of the demand may be lost with control
LISTED: Final = 20_000


@dataclass(slots=True)
class Filled:
    """What a region's edges fetched in a night."""

    objects: int = 0
    bytes: int = 0
    failed: int = 0


@dataclass(slots=True)
class Night:
    """One window: when it began (Unix seconds), bytes by edge, results by region."""

    began: int
    done: bool = False
    by_edge: dict[str, int] = field(default_factory=dict)
    regions: dict[str, Filled] = field(default_factory=dict)


class Prepositioning:
    """`learn` hears every edge's load; `run` is the loop. `start` blocks."""

    def __init__(
        self,
        folder: Path,
        plane: ControlPlane,
        fleet: Fleet,
        audit: AuditLog,
        log: Log,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = folder / "preposition.json"
        self._plane = plane
        self._fleet = fleet
        self._audit = audit
        self._log = log
        self._clock = clock
        self._loads: dict[str, BucketLoad] = {}
        self._kept_at = clock()
        self.demand: dict[str, dict[int, float]] = {}
        self.demand_at = clock()
        self.night: Night | None = None

    def start(self) -> None:
        """Reads what an earlier control left. What cannot be read is forgotten: a night is then filled once more."""
        try:
            kept = kept_json(self._file)
            if kept is None:
                return
            self.demand = {
                str(region): {int(bucket): float(size) for bucket, size in sizes.items()}
                for region, sizes in kept["demand"].items()
            }
            self.demand_at = float(kept["demand_at"])
            self.night = _night_from(kept["night"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.error("what was known of nightly fills cannot be read; it begins anew", error=repr(error))

    def learn(self, edge: str, report: BucketLoad) -> None:
        """Takes in what an edge says that it sent."""
        deployment = self._plane.deployment
        region = next((deployment.pops[pop].region for name, pop, _ in deployment.edges() if name == edge), None)
        before, self._loads[edge] = self._loads.get(edge), report
        if region is None:
            return
        self._age()
        sizes = self.demand.setdefault(region, {})
        for bucket, size_bytes in enumerate(grown(before, report)[:BUCKETS]):
            if size_bytes:
                sizes[bucket] = sizes.get(bucket, 0.0) + size_bytes

    def told(self) -> dict[str, Any] | None:
        """The last night, for the status."""
        settings = self._plane.deployment.control.preposition
        if settings is None:
            return None
        return {"window": str(settings.window), "night": None if self.night is None else asdict(self.night)}

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Fills the edges when the window is open and this night is not done. Returns when that is over."""
        shares = list(ahead_shares(self._plane.deployment, self._plane.readings))
        for share in shares:
            AHEAD_USE_RATIO.labels(share.region, share.why).set(share.use_ratio)
        settings = self._plane.deployment.control.preposition
        began = None if settings is None else settings.window.opened_at(self._clock())
        if settings is not None and began is not None and (self.night is None or self.night.began != began):
            used = {share.region: share.use_ratio for share in shares if share.why == Why.PREPOSITION}
            await self._report_use(used)
            self.night = Night(began)
        if settings is not None and self.night is not None and self.night.began == began and not self.night.done:
            await self._fill(settings, self.night)
        elif self._clock() - self._kept_at >= KEEP_S:
            await self._keep()

    async def _fill(self, settings: Preposition, night: Night) -> None:
        fills = await self._plan(settings, night)
        by_edge: dict[str, list[EdgeFill]] = {}
        for fill in fills:
            by_edge.setdefault(fill.edge, []).append(fill)
        await asyncio.gather(*(self._fill_edge(mine, settings, night) for mine in by_edge.values()))
        night.done = True
        await self._keep()
        for region, filled in sorted(night.regions.items()):
            text = f"{region}: {filled.objects} objects, {filled.bytes / 1e6:,.1f} MB fetched ahead"
            text += f", {filled.failed} failed" if filled.failed else ""
            self._plane.tell(Kind.NIGHT, text)
            await asyncio.to_thread(self._audit.note, NIGHTLY, What.PREPOSITION, _date(night), text)

    async def _plan(self, settings: Preposition, night: Night) -> list[EdgeFill]:
        deployment, current = self._plane.deployment, self._plane.publisher.current
        if current is None:
            return []
        down = {node for node, health in self._plane.health.items() if health.state == "down"}
        edges = [name for name, _, _ in deployment.edges() if name not in down]
        shields = [name for name in deployment.shields if name not in down]
        answers = await asyncio.gather(*(self._listed(node) for node in (*edges, *shields)))
        lists = dict(zip((*edges, *shields), answers, strict=True))
        left = {edge: settings.size - night.by_edge.get(edge, 0) for edge in edges}
        self._age()
        demand = {region: dict(sizes) for region, sizes in self.demand.items()}

        def plan() -> list[EdgeFill]:
            return plan_fills(demand, lists, owners(world_of(current)), shields, settings.top, left)

        return await asyncio.to_thread(plan)

    async def _listed(self, node: str) -> list[Hot]:
        try:
            return [Hot(*entry) for entry in await self._fleet.hottest(self._plane.deployment, node, range(BUCKETS), LISTED)]
        except NoAnswer as error:
            self._log.info("a cache does not say what is hot", of=node, error=str(error))
            return []

    async def _fill_edge(self, fills: list[EdgeFill], settings: Preposition, night: Night) -> None:
        """One edge's part, order by order, until the window closes."""
        for fill in fills:
            filled = night.regions.setdefault(fill.region, Filled())
            for part in parts_of(fill.objects, settings):
                if settings.window.opened_at(self._clock()) != night.began:
                    return
                order = WarmOrder(part, settings.concurrency, settings.bandwidth, Why.PREPOSITION)
                try:
                    report = await self._fleet.warm(self._plane.deployment, fill.edge, order)
                except NoAnswer as error:
                    self._log.warning("an edge does not go on with its nightly fill", of=fill.edge, error=str(error))
                    return
                night.by_edge[fill.edge] = night.by_edge.get(fill.edge, 0) + report.size_bytes
                filled.objects += report.counts[WarmOutcome.FETCHED]
                filled.bytes += report.size_bytes
                filled.failed += report.counts[WarmOutcome.FAILED]
                PREPOSITIONED.labels(fill.region).inc(report.size_bytes)
                await self._keep()

    async def _report_use(self, used: Mapping[str, float]) -> None:
        """Before the next night: what came of the last one."""
        if self.night is None:
            return
        for region, filled in sorted(self.night.regions.items()):
            known = f"{used[region]:.0%} was used" if region in used else "what was used is not known: its edges began anew"
            text = f"{region}: of {filled.bytes / 1e6:,.1f} MB fetched ahead, {known}"
            self._plane.tell(Kind.NIGHT, text)
            await asyncio.to_thread(self._audit.note, NIGHTLY, What.PREPOSITION, _date(self.night), text)

    def _age(self) -> None:
        now = self._clock()
        if now - self.demand_at >= KEEP_S:
            self.demand = {region: aged(sizes, now - self.demand_at) for region, sizes in self.demand.items()}
            self.demand_at = now

    async def _keep(self) -> None:
        self._kept_at = self._clock()
        night = None if self.night is None else asdict(self.night)
        demand = {region: dict(sizes) for region, sizes in self.demand.items()}
        members = {"demand": demand, "demand_at": self.demand_at, "night": night}
        try:
            await asyncio.to_thread(keep_json, self._file, members)
        except OSError as error:
            self._log.error("what was fetched at night could not be written down", error=str(error))


def _date(night: Night) -> str:
    return f"night of {datetime.fromtimestamp(night.began, UTC):%Y-%m-%d}"


def _night_from(members: Any) -> Night | None:
    if members is None:
        return None
    regions = {str(name): Filled(**filled) for name, filled in members["regions"].items()}
    return Night(int(members["began"]), bool(members["done"]), dict(members["by_edge"]), regions)
