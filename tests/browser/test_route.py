"""The page's way to its bytes, in a browser, before the real API: renewed grants, failed edges, an API that is gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser
from sqlalchemy import update

from origin.api.pages import load_pages
from origin.catalogue.engine import writing
from origin.catalogue.schema import videos
from tests.support.browser import Visit, visiting
from tests.support.deployments import lab_deployment
from tests.support.origin import RunningApi, running_api

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]


@pytest_asyncio.fixture(loop_scope="session")
async def api(tmp_path: Path) -> AsyncIterator[RunningApi]:
    """Grants live for two seconds here."""
    deployment = lab_deployment(tmp_path)
    short = deployment.signing.model_copy(update={"lifetime": 2.0})
    async with running_api(deployment.model_copy(update={"signing": short})) as running:
        yield running


async def on_route(visit: Visit, api: RunningApi, script: str) -> Any:
    """Runs `script` with `route`, opened for a video that is ready; `told(name)` waits for its next event of that name."""
    video_id = await api.creator.upload(b"bytes")
    async with writing(api.catalogue) as connection:
        ready = {"state": "ready", "ready_at": 1.0, "duration_s": 0.5}
        await connection.execute(update(videos).where(videos.c.id == video_id).values(**ready))
    await visit.page.goto(f"{api.deployment.origin.api.listen.url}/")
    module = json.dumps(f"/assets/{load_pages().version}/route.js")
    return await visit.page.evaluate(
        f"""async () => {{
          const {{ Route }} = await import({module});
          const route = new Route({json.dumps(video_id)});
          await route.open();
          const once = {{ once: true }};
          const told = (name) => new Promise((done) => route.addEventListener(name, (event) => done(event.detail), once));
          {script}
        }}"""
    )


async def test_a_grant_is_renewed_before_it_ends_at_the_same_edge(browser: Browser, api: RunningApi) -> None:
    async with visiting(browser) as visit:
        before, after, reason, left_s = await on_route(
            visit,
            api,
            """const before = route.base;
               const ends = route.answer.expires_at;
               const { reason } = await told("change");
               return [before, route.base, reason, ends - Date.now() / 1000];""",
        )
    assert reason == "renewed"
    assert before != after
    assert before.rsplit("/", 1)[0] == after.rsplit("/", 1)[0]
    assert left_s > 0


async def test_each_failed_edge_is_left_for_one_that_has_not_failed(browser: Browser, api: RunningApi) -> None:
    async with visiting(browser) as visit:
        edges, moved = await on_route(
            visit,
            api,
            """const edges = [route.edge.name];
               const moved = [];
               for (let turn = 0; turn < 2; turn += 1) {
                 moved.push(...await Promise.all([route.leave(), route.leave()]));
                 edges.push(route.edge.name);
               }
               return [edges, moved];""",
        )
    assert edges[0] == "fra-1"
    assert sorted(edges) == ["fra-1", "iad-1", "sin-1"]
    assert moved == [True] * 4  # two errors at once are one move


async def test_without_the_api_the_last_answers_other_edges_are_used_under_the_same_grant(
    browser: Browser, api: RunningApi
) -> None:
    async with visiting(browser) as visit:
        visit.expect("ERR_FAILED")

        async def cut(route: Any) -> None:
            await route.abort()

        await visit.page.route("**/playback?avoid=*", cut)
        before, after, edge = await on_route(
            visit, api, "const before = route.base; await route.leave(); return [before, route.base, route.edge];"
        )
    assert edge["name"] != "fra-1"
    assert after.startswith(f"http://{edge['address']}/")
    assert before.rsplit("/", 1)[1] == after.rsplit("/", 1)[1]
