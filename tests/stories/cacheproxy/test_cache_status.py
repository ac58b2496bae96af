"""`Cache-Status` of an ordinary site: why a request was forwarded, in the words of RFC 9211 section 2.2."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from tests.stories.cacheproxy.test_ordinary_sites import answering, site
from tests.support.proxies import RunningEdge
from tests.support.scriptedparent import Asked, Script, header, serving
from tests.support.waiting import until

FRESH: Script = serving(b"body")
STALE: Script = serving(b"body", fresh_s=0)
NEW_EACH_TIME: Script = answering("Cache-Control: max-age=60")


async def said(edge: RunningEdge, method: str = "GET", **fields: str) -> list[str]:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    async with edge.client.request(method, edge.url("/a"), headers=named) as answer:
        await answer.read()
    await edge.settled()
    return answer.headers["Cache-Status"].split("; ")[1:3]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PURGE"])
async def test_a_method_that_is_passed_on_is_the_reason(deployment: Deployment, tmp_path: Path, method: str) -> None:
    async with site(deployment, tmp_path, FRESH) as (_, edge):
        assert await said(edge, method) == ["fwd=method", "fwd-status=200"]


async def test_a_get_that_the_cache_must_not_touch_bypasses_it(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path, FRESH) as (_, edge):
        assert await said(edge, Cache_Control="no-store") == ["fwd=bypass", "fwd-status=200"]


REQUESTS = [
    (FRESH, "no-cache", ["fwd=request", "fwd-status=304"]),
    (FRESH, "max-age=0", ["fwd=request", "fwd-status=304"]),
    (FRESH, "min-fresh=120", ["fwd=request", "fwd-status=304"]),
    (NEW_EACH_TIME, "no-cache", ["fwd=request", "fwd-status=200"]),
    (STALE, "no-cache", ["fwd=stale", "fwd-status=304"]),
    (STALE, "max-stale=0", ["fwd=stale", "fwd-status=304"]),
]


@pytest.mark.parametrize(("script", "control", "reason"), REQUESTS)
async def test_what_is_fresh_is_forwarded_for_the_request_and_what_is_stale_for_that(
    deployment: Deployment, tmp_path: Path, script: Script, control: str, reason: list[str]
) -> None:
    async with site(deployment, tmp_path, script) as (_, edge):
        await said(edge)
        assert await said(edge, Cache_Control=control) == reason


async def test_who_waits_for_anothers_question_about_a_stale_object_says_so(deployment: Deployment, tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    goes_on.set()

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await goes_on.wait()
        fresh_s = 60 if "if-none-match" in asked.fields else 0
        writer.write(header("200 OK", 'ETag: "v1"', f"Cache-Control: max-age={fresh_s}", "Content-Length: 3") + b"new")

    async with site(deployment, tmp_path, script) as (_, edge):
        await said(edge)
        goes_on.clear()
        both = [asyncio.create_task(edge.get("/a")) for _ in range(2)]
        await until(lambda: edge.followers("site/a") == 2)
        goes_on.set()
        told = sorted(fields["cache-status"] for _, fields, _ in await asyncio.gather(*both))
        assert told == ["fra-1; fwd=stale; collapsed; fwd-status=200; stored", "fra-1; fwd=stale; fwd-status=200; stored"]
