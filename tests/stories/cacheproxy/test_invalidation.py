"""A method that changes a resource, while the resource is being fetched: what was asked for before it serves nobody after it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headwater.settings.deployment import Deployment
from tests.stories.cacheproxy.test_ordinary_sites import site
from tests.support.scriptedparent import Asked, Script, header
from tests.support.waiting import until


def changing(goes_on: asyncio.Event, *lines: str, held: int) -> Script:
    """Answers with `old` until a PUT came, then with `new`; the end of the answer to GET number `held` (from 1) is held back."""
    body, gets = b"old", 0

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal body, gets
        if asked.line.startswith("PUT"):
            body = b"new"
            writer.write(header("204 No Content"))
            return
        gets += 1
        answer, holds = body, gets == held
        writer.write(header("200 OK", *lines, "Content-Length: 3") + answer[:2])
        await writer.drain()
        if holds:
            await goes_on.wait()
        writer.write(answer[2:])

    return script


async def test_a_variant_that_is_fetched_alone_is_not_stored_after_the_object_was_changed(
    deployment: Deployment, tmp_path: Path
) -> None:
    goes_on, led = asyncio.Event(), asyncio.Event()
    inner = changing(goes_on, "Cache-Control: max-age=60", "Vary: X-Kind", held=2)

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await led.wait()
        await inner(asked, writer)

    async with site(deployment, tmp_path, script) as (parent, edge):
        leader = asyncio.create_task(edge.get("/a", X_Kind="one"))
        await until(lambda: len(parent.asked) == 1)
        alone = asyncio.create_task(edge.get("/a", X_Kind="two"))
        await until(lambda: any(fill.followers == 2 for fill in edge.proxy.fills._shared.values()))
        led.set()
        await leader
        await until(lambda: len(parent.asked) == 2)
        async with edge.client.put(edge.url("/a"), data=b"changed") as changed:
            assert changed.status == 204
        goes_on.set()
        assert (await alone)[2] == b"old", "it was asked for before the change"
        await edge.settled()
        assert (await edge.get("/a", X_Kind="two"))[2] == b"new"


async def test_a_fill_that_another_one_has_replaced_is_not_stored_after_the_object_was_changed(
    deployment: Deployment, tmp_path: Path
) -> None:
    goes_on = asyncio.Event()
    script = changing(goes_on, 'ETag: "v1"', "Cache-Control: max-age=0, stale-while-revalidate=60", held=1)
    async with site(deployment, tmp_path, script) as (parent, edge):
        first = asyncio.create_task(edge.get("/a"))
        await until(lambda: any(fill.header is not None for fill in edge.proxy.fills._shared.values()))
        assert (await edge.get("/a"))[2] == b"old", "the running answer is stale already, so that nobody joins it"
        assert len(parent.asked) == 2
        async with edge.client.put(edge.url("/a"), data=b"changed") as changed:
            assert changed.status == 204
        goes_on.set()
        assert (await first)[2] == b"old"
        await edge.settled()
        assert (await edge.get("/a"))[2] == b"new"
