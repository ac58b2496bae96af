"""`headwater warm`: objects into the edges that would serve them, before anybody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from control.plane import ControlPlane
from control.watching.fleet import Fleet, NoAnswer
from headwater.rules.names import Bucket, InvalidName, bucket_of, parse_video_id
from headwater.rules.ownership import NOBODY, owners
from headwater.rules.warmorder import OBJECTS_AT_ONCE, Wanted, WarmOrder, WarmReport, in_orders
from headwater.runtime.problems import Problem
from headwater.settings.sites import NotServed, object_of
from headwater.settings.world import world_of

URLS_AT_MOST: Final = 100_000
ORDER_OBJECTS: Final = 50


class Warming:
    """Orders of operators to fetch objects ahead."""

    def __init__(self, plane: ControlPlane, fleet: Fleet) -> None:
        self._plane = plane
        self._fleet = fleet

    async def warm(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Fetches {urls: […]} into {edges: […]}, or into the edges that each object is steered to in every region. Raises
        Problem; an edge that does not carry its order out is named in the answer."""
        keys = self._keys(asked)
        edges = self._edges(asked)
        wanted = await asyncio.to_thread(self._by_edge, keys, edges)
        reports = await asyncio.gather(*(self._fill(edge, objects, asked) for edge, objects in wanted.items()))
        return {
            "objects": len(keys),
            "edges": [
                {"edge": edge, "error": error, **report.members()} for edge, (report, error) in zip(wanted, reports, strict=True)
            ],
        }

    async def _fill(self, edge: str, objects: list[Wanted], asked: Mapping[str, Any]) -> tuple[WarmReport, str | None]:
        report = WarmReport()
        concurrency, bandwidth_bps = asked.get("concurrency", 4), asked.get("bandwidth_bps")
        try:
            for part in in_orders(objects, min(ORDER_OBJECTS, OBJECTS_AT_ONCE)):
                report.add(await self._fleet.warm(self._plane.deployment, edge, WarmOrder(part, concurrency, bandwidth_bps)))
        except NoAnswer as error:
            return report, str(error)
        return report, None

    def _keys(self, asked: Mapping[str, Any]) -> list[str]:
        urls = asked.get("urls")
        if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
            raise _invalid("urls: a list of URLs or paths was expected")
        if len(urls) > URLS_AT_MOST:
            raise _invalid(f"urls: at most {URLS_AT_MOST} were expected")
        try:
            return list(dict.fromkeys(object_of(url, self._plane.deployment).key for url in urls))
        except NotServed as error:
            raise _invalid(str(error)) from error

    def _edges(self, asked: Mapping[str, Any]) -> list[str] | None:
        names = asked.get("edges")
        if names is None:
            return None
        deployment = self._plane.deployment
        known = {name: [name] for name, _, _ in deployment.edges()} | {
            name: list(pop.edges) for name, pop in deployment.pops.items()
        }
        if not isinstance(names, list) or not names or any(not isinstance(name, str) or name not in known for name in names):
            raise _invalid(f"edges: POPs or edges were expected, of {', '.join(known)}")
        return list(dict.fromkeys(edge for name in names for edge in known[name]))

    def _by_edge(self, keys: list[str], edges: list[str] | None) -> dict[str, list[Wanted]]:
        """Who is to have what: the edges that were named, else for a video each region's first choice, else every edge."""
        current = self._plane.publisher.current
        assert current is not None
        owned = owners(world_of(current))
        wanted: dict[str, list[Wanted]] = {}
        for key in keys:
            chosen = edges or _first_choices(key, owned) or [name for name, _, _ in current.deployment.edges()]
            for edge in chosen:
                wanted.setdefault(edge, []).append(Wanted(key))
        return wanted


def _first_choices(key: str, owned: Mapping[str, tuple[str, ...]]) -> list[str]:
    bucket = _bucket_of(key)
    if bucket is None:
        return []
    return [edge for edge in dict.fromkeys(by_bucket[bucket] for by_bucket in owned.values()) if edge != NOBODY]


def _bucket_of(key: str) -> Bucket | None:
    folder, _, rest = key.partition("/")[2].partition("/")
    try:
        return bucket_of(parse_video_id(rest.partition("/")[0])) if folder == "videos" else None
    except InvalidName:
        return None


def _invalid(detail: str) -> Problem:
    return Problem(400, "warm-invalid", "Warm order invalid", detail)
