"""Answers to POST at an ordinary site: kept for later GETs only where they say that they are what a GET would get."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from tests.stories.cacheproxy.test_ordinary_sites import answering, site
from tests.support.proxies import RunningEdge
from tests.support.scriptedparent import Asked, header

LIFE = "Cache-Control: max-age=60"


async def post(edge: RunningEdge, path: str, **headers: str) -> bytes:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with edge.client.post(edge.url(path), data=b"question", headers=fields) as answer:
        assert answer.status < 400
        return await answer.read()


@pytest.mark.parametrize(("path", "location"), [("/a", "/a"), ("/a", ""), ("/a?b=c", "/a?b=c"), ("/a?b=c", "")])
async def test_an_answer_that_is_the_target_itself_is_kept_for_gets(
    deployment: Deployment, tmp_path: Path, path: str, location: str
) -> None:
    async with site(deployment, tmp_path, answering(LIFE, f"Content-Location: {location}")) as (parent, edge):
        assert await post(edge, path) == b"1"
        for _ in range(2):
            _, fields, body = await edge.get(path)
            assert (body, "hit" in fields["cache-status"]) == (b"1", True)
        assert await post(edge, path) == b"2", "a POST itself always goes to the site"
        assert (await edge.get(path))[2] == b"2"
        assert len(parent.asked) == 2


NOT_KEPT = [
    ("no location", "200 OK", (LIFE,)),
    ("another location", "200 OK", (LIFE, "Content-Location: /b")),
    ("another host", "200 OK", (LIFE, "Content-Location: http://other.test/a")),
    ("no lifetime", "200 OK", ("Content-Location: /a", 'ETag: "v1"')),
    ("private", "200 OK", ("Cache-Control: max-age=60, private", "Content-Location: /a")),
    ("not stored", "200 OK", ("Cache-Control: max-age=60, no-store", "Content-Location: /a")),
    ("varies", "200 OK", (LIFE, "Content-Location: /a", "Vary: Accept-Language")),
    ("created", "201 Created", (LIFE, "Content-Location: /a")),
]


@pytest.mark.parametrize(("status", "lines"), [case[1:] for case in NOT_KEPT], ids=[case[0] for case in NOT_KEPT])
async def test_any_other_answer_is_not(deployment: Deployment, tmp_path: Path, status: str, lines: tuple[str, ...]) -> None:
    async with site(deployment, tmp_path, answering(*lines, status=status)) as (parent, edge):
        await post(edge, "/a")
        assert (await edge.get("/a"))[2] == b"2"
        assert len(parent.asked) == 2


async def test_an_answer_to_a_client_that_may_is_not_for_everybody(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path, answering(LIFE, "Content-Location: /a")) as (_, edge):
        await post(edge, "/a", Authorization="Basic eDp5")
        assert (await edge.get("/a"))[2] == b"2"


async def test_an_answer_that_breaks_off_is_not_kept(deployment: Deployment, tmp_path: Path) -> None:
    async def breaking(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.line.startswith("POST"):
            writer.write(header("200 OK", LIFE, "Content-Location: /a", "Content-Length: 9") + b"half")
            await writer.drain()
            writer.transport.close()
            return
        writer.write(header("200 OK", LIFE, "Content-Length: 5") + b"whole")

    async with site(deployment, tmp_path, breaking) as (_, edge):
        with pytest.raises(Exception, match="payload"):
            await post(edge, "/a")
        assert (await edge.get("/a"))[2] == b"whole"


async def test_an_answer_that_another_change_overtakes_is_not_kept(deployment: Deployment, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def slowly(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.line.startswith("POST"):
            writer.write(header("200 OK", LIFE, "Content-Location: /a", "Content-Length: 6") + b"be")
            await writer.drain()
            await go_on.wait()
            writer.write(b"fore")
        elif asked.line.startswith("PUT"):
            writer.write(header("204 No Content"))
        else:
            writer.write(header("200 OK", LIFE, "Content-Length: 5") + b"after")

    async with site(deployment, tmp_path, slowly) as (_, edge):
        async with edge.client.post(edge.url("/a"), data=b"question") as posted:
            assert await posted.content.readexactly(2) == b"be"
            async with edge.client.put(edge.url("/a"), data=b"changed") as changed:
                assert changed.status == 204
            go_on.set()
            assert await posted.content.readexactly(4) == b"fore"
        assert (await edge.get("/a"))[2] == b"after"


async def test_a_slow_answer_does_not_replace_what_a_get_brought_meanwhile(deployment: Deployment, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def slowly(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.line.startswith("POST"):
            writer.write(header("200 OK", LIFE, "Content-Location: /a", "Content-Length: 6") + b"be")
            await writer.drain()
            await go_on.wait()
            writer.write(b"fore")
        else:
            writer.write(header("200 OK", LIFE, "Content-Length: 5") + b"after")

    async with site(deployment, tmp_path, slowly) as (_, edge):
        async with edge.client.post(edge.url("/a"), data=b"question") as posted:
            assert await posted.content.readexactly(2) == b"be"
            assert (await edge.get("/a"))[2] == b"after"
            await edge.settled()
            go_on.set()
            assert await posted.content.readexactly(4) == b"fore"
        _, fields, body = await edge.get("/a")
        assert (body, "hit" in fields["cache-status"]) == (b"after", True)
