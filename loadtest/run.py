"""One run of a scenario: viewers arrive, watch and leave; the nodes are read before and after; the run ends in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import aiohttp

from headwater.settings.deployment import Deployment, Role
from headwater.settings.units import Address
from loadtest.failures import Cause, RequestFailed
from loadtest.fetching import Fetcher, require_allowed
from loadtest.measures import Measures
from loadtest.names import Names
from loadtest.nodemetrics import NodeCounts, TierCounts, measured_roles, read_counts, tier_counts
from loadtest.originapi import OriginApi
from loadtest.population import PlannedViewer, plan_viewers
from loadtest.scenario import Scenario
from loadtest.verdict import Judged, judge
from loadtest.viewer import Viewer

# A browser's own limit for HTTP/1.1.
CONNECTIONS_PER_EDGE: Final = 6
TIERS: Final[tuple[Role, ...]] = ("edge", "shield", "origin-bytes")


class CannotRun(Exception):
    """The run cannot begin; the message is one sentence that names the cure."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is tested. Without a deployment the nodes' own counters are not read."""

    api_url: str
    dns: Address
    deployment: Deployment | None
    allow_remote: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out. `took_s` is the whole run; `videos` how many different ones were there to choose from."""

    scenario: Scenario
    measures: Measures
    tiers: dict[Role, TierCounts] | None
    judged: list[Judged]
    started_at: float
    took_s: float
    videos: int

    @property
    def met(self) -> bool:
        return all(one.met for one in self.judged)


async def run_scenario(scenario: Scenario, target: Target, progress: Callable[[Measures], None] = lambda _: None) -> Outcome:
    """Runs the scenario at real pace. `progress` is told after each viewer. Raises CannotRun."""
    measures = Measures()
    started_at, started = time.time(), time.monotonic()
    try:
        require_allowed(target.dns.host, target.allow_remote)
        async with aiohttp.ClientSession(trust_env=False) as session:
            api = OriginApi(session, target.api_url, measures, allow_remote=target.allow_remote)
            videos = await _videos(scenario, api)
            before = await _counts(session, target)
            await _watch_all(scenario, plan_viewers(scenario, videos), api, target, measures, progress)
            after = await _counts(session, target)
    except RequestFailed as failed:
        raise CannotRun(f"the run cannot begin: {failed.detail} ({failed.cause}).") from failed
    tiers = _tiers(target, before, after)
    origin = tiers["origin-bytes"] if tiers is not None else None
    origin_requests = origin.requests if origin is not None and not origin.silent else None
    judged = judge(scenario.objectives, measures, origin_requests)
    return Outcome(scenario, measures, tiers, judged, started_at, time.monotonic() - started, len(videos))


async def _videos(scenario: Scenario, api: OriginApi) -> list[str]:
    videos = scenario.videos.ids or await api.ready_videos(scenario.videos.newest)
    if not videos:
        raise CannotRun("there is no ready video to watch: `headwater upload FILE` one and wait until it is ready.")
    return videos


async def _watch_all(
    scenario: Scenario,
    plans: Sequence[PlannedViewer],
    api: OriginApi,
    target: Target,
    measures: Measures,
    progress: Callable[[Measures], None],
) -> None:
    """Every viewer to its end, or to the scenario's time limit: who is not done then has failed."""
    names = Names(target.dns, time.monotonic, measures.names.record)
    unfinished = len(plans)

    async def one(plan: PlannedViewer) -> None:
        nonlocal unfinished
        await asyncio.sleep(plan.starts_at_s)
        connector = aiohttp.TCPConnector(limit_per_host=CONNECTIONS_PER_EDGE)
        async with aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False) as session:
            fetcher = Fetcher(
                session,
                names,
                measures,
                network=plan.network,
                timeout_s=scenario.player.request_timeout,
                attempts=scenario.player.attempts,
                allow_remote=target.allow_remote,
            )
            await Viewer(plan, scenario, api, fetcher, measures).watch()
        unfinished -= 1
        progress(measures)

    with suppress(TimeoutError):
        async with asyncio.timeout(scenario.time_limit), asyncio.TaskGroup() as viewers:
            for plan in plans:
                viewers.create_task(one(plan), name=f"viewer-{plan.number}")
    for _ in range(unfinished):
        measures.gave_up(Cause.OUT_OF_TIME, f"not done within the time limit of {scenario.time_limit:g} s")


async def _counts(session: aiohttp.ClientSession, target: Target) -> NodeCounts | None:
    if target.deployment is None:
        return None
    return await read_counts(session, target.deployment, measured_roles(target.deployment))


def _tiers(target: Target, before: NodeCounts | None, after: NodeCounts | None) -> dict[Role, TierCounts] | None:
    if target.deployment is None or before is None or after is None:
        return None
    roles = measured_roles(target.deployment)
    return {tier: tier_counts(before, after, roles, tier) for tier in TIERS}
