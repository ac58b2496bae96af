"""Health from several points: real nodes as vantages, and an edge whose links to some of them are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from control import plane
from control.service import control_node
from dnssteer.service import dns_node
from headwater.runtime.healthcheck import ASKER_HEADER
from headwater.runtime.httpsite import admin_app, serve_app
from headwater.settings.deployment import admin_address
from shield.service import shield_node
from tests.support.controlled import Lab, answering, controlled_lab

VANTAGES = {"control", "dns", "shield-1", "shield-2"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with controlled_lab(tmp_path) as lab:
        yield lab


@asynccontextmanager
async def watched(lab: Lab, cut: set[str], failing: AbstractSet[str] = frozenset()) -> AsyncIterator[set[str]]:
    """Control, the steering node and both shields, all real, around an edge that never answers those in `cut`.

    Gives who has asked the edge."""
    asked: set[str] = set()

    @web.middleware
    async def link(request: web.Request, handler: web.RequestHandler) -> web.StreamResponse:
        who = request.headers.get(ASKER_HEADER, "")
        asked.add(who)
        if who in cut:
            assert request.transport is not None
            request.transport.abort()
        answer: web.StreamResponse = await handler(request)
        return answer

    served = {"fra-1": [0, 0], "iad-1": [0, 0]}

    def counting(edge: str) -> web.Application:
        """Each reading of its metrics finds 100 more requests, all of them failed for an edge in `failing`."""

        async def text() -> str:
            served[edge][edge in failing] += 100
            good, bad = served[edge]
            requests = f'headwater_cache_requests_total{{outcome="hit",status="2xx"}} {good}\n'
            return f'{requests}headwater_cache_requests_total{{outcome="failed",status="5xx"}} {bad}\n'

        return admin_app(metrics_text=text)

    site = counting("fra-1")
    site.middlewares.append(link)
    async with AsyncExitStack() as nodes, AsyncExitStack() as control:
        await nodes.enter_async_context(serve_app(site, admin_address(lab.deployment, "fra-1"), drain_s=0.1))
        await nodes.enter_async_context(serve_app(counting("iad-1"), admin_address(lab.deployment, "iad-1"), drain_s=0.1))
        await nodes.enter_async_context(answering(lab, "sin-1"))
        await control.enter_async_context(control_node(lab.context("control")))
        for shield in lab.deployment.shields:
            await nodes.enter_async_context(shield_node(lab.context(shield)))
        await nodes.enter_async_context(dns_node(lab.context("dns")))
        yield asked


async def until_all_asked(asked: set[str], times: int = 4) -> None:
    """Every vantage has asked so many times more."""
    async with asyncio.timeout(20):
        for _ in range(times):
            asked.clear()
            while not asked >= VANTAGES:  # noqa: ASYNC110 - other nodes' loops
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("cut", ["control", "dns"])
async def test_one_broken_link_takes_no_pop_out(lab: Lab, cut: str) -> None:
    links: set[str] = set()
    async with watched(lab, links) as asked:
        await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "up")
        await until_all_asked(asked)
        links.add(cut)
        await until_all_asked(asked)
        assert (await lab.now()).health["fra-1"] == "up"


async def test_an_edge_that_most_cannot_reach_is_down_though_control_can(lab: Lab) -> None:
    links: set[str] = set()
    async with watched(lab, links):
        await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "up")
        links.update(VANTAGES - {"control"})
        await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "down")
        assert "(say 3 of 4 vantages)" in (await lab.node("fra-1"))["error"]
        links.clear()
        await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "up")


async def test_an_edge_that_fails_its_viewers_is_down_when_the_vantages_are_split_and_never_for_that_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane, "TRAFFIC_S", 0.2)
    links: set[str] = set()
    failing: set[str] = {"fra-1"}
    async with watched(lab, links, failing) as asked:
        await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "up")
        await until_all_asked(asked, times=20)
        assert (await lab.now()).health["fra-1"] == "up"
        links.update({"dns", "shield-1"})
        await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "down")
        assert "(say 3 of 5 vantages)" in (await lab.node("fra-1"))["error"]
        failing.clear()
        await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "up")
