"""What control sees of the live system, as plans need it: traffic and capacity of edges, hot objects of caches."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from control.config.wanted import Wanted
from control.plane import ControlPlane
from control.rollouts.foreseen import Foreseen, foresee, steady_world
from control.watching.fleet import Fleet
from control.watching.traffic import traffic
from headwater.rules.planning import EdgeTraffic, Seen, plan
from headwater.settings.snapshot import Health


class Seeing:
    """Plans against the live system."""

    def __init__(self, plane: ControlPlane, fleet: Fleet) -> None:
        self._plane = plane
        self._fleet = fleet

    async def foresee(self, before: Wanted, after: Wanted) -> Foreseen:
        """The plan. Only caches that take part in a move are asked what they hold."""
        plane, seen, health = self._plane, self.without_holdings(), self._health()
        seen = replace(seen, capacities=_capacities(after) | _capacities(before, only_missing_in=after))
        worlds = steady_world(before.effective, health), steady_world(after.effective, health)
        moves = (await asyncio.to_thread(plan, *worlds, seen)).moves
        known = {name for name, _, _ in plane.deployment.edges()} | set(plane.deployment.shields)
        asked = {name for move in moves for name in (move.source, move.target)} | set(seen.shields)
        shields_differ = before.effective.shields != after.effective.shields
        if moves or shields_differ:
            reachable = sorted(node for node in asked & known if health.get(node) != "down")
            seen = replace(seen, holdings=await self._fleet.holdings(plane.deployment, reachable))
        return await asyncio.to_thread(foresee, before, after, health, seen)

    def without_holdings(self) -> Seen:
        """Traffic and shields, at once."""
        plane = self._plane
        rates: dict[str, EdgeTraffic] = {}
        for name, _, _ in plane.deployment.edges():
            measured = traffic(plane.readings.get(name, ()))
            if measured is not None:
                rates[name] = EdgeTraffic(measured.egress_bps, self._by_bucket(name))
        return Seen(traffic=rates, shields=tuple(plane.deployment.shields))

    def _by_bucket(self, edge: str) -> dict[int, float] | None:
        """What the edge sends by bucket, once two of its reports have come."""
        if edge not in self._plane.balance.loads:
            return None
        return {bucket: bps for bucket, bps in enumerate(self._plane.balance.bucket_bps(edge)) if bps > 0} or None

    def _health(self) -> dict[str, Health]:
        return {node: health.state for node, health in self._plane.health.items()}


def _capacities(wanted: Wanted, only_missing_in: Wanted | None = None) -> dict[str, float]:
    there = {name for name, _, _ in only_missing_in.deployment.edges()} if only_missing_in else set()
    return {name: float(edge.capacity) for name, _, edge in wanted.deployment.edges() if name not in there}
