"""Requests with bodies at a real edge, over real sockets: what a body is counted as, and who is told to send it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from headwater.runtime.metrics import value
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from headwater.settings.limits import Limits
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Property
from headwater.settings.units import Address
from tests.support.proxies import RunningEdge, running_edge
from tests.support.rawhttp import answers, exchange
from tests.support.strictparent import StrictParent, strict_parent

BODY = bytes(range(256)) * 8 * 1024  # 2 MiB: many times what a header may have
LAST = b"GET /last HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n"


def post(target: str, length: int, *fields: str) -> bytes:
    lines = (f"POST {target} HTTP/1.1", "Host: www.test", f"Content-Length: {length}", *fields)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@asynccontextmanager
async def before_a_site(
    deployment: Deployment, folder: Path, limits: Limits | None = None, cache: CacheSettings | None = None
) -> AsyncIterator[tuple[StrictParent, RunningEdge]]:
    async with strict_parent() as parent:
        settings = Property(hosts=["www.test"], signed=False, parent=parent.address.url, shielded=False, cors=False)
        snapshot = Snapshot(version=1, deployment=deployment.model_copy(update={"properties": {"site": settings}}))
        async with running_edge(snapshot, folder, cache, limits=limits) as edge:
            yield parent, edge


async def test_a_large_body_that_comes_with_its_header_passes(deployment: Deployment, tmp_path: Path) -> None:
    async with before_a_site(deployment, tmp_path) as (parent, edge):
        got = answers(await exchange(edge.address, post("/a", len(BODY)) + BODY + LAST))
        assert [answer.status for answer in got] == [200, 200]
        assert parent.requests[0].body == BODY


async def test_a_body_that_nobody_wants_is_no_header_of_the_next_request(deployment: Deployment, tmp_path: Path) -> None:
    limits = Limits.model_validate({"header_timeout": "200 ms"})
    async with before_a_site(deployment, tmp_path, limits) as (_, edge):
        before = value("headwater_limits_reached_total", limit="header_too_long")
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        writer.write(post("/a/../b", len(BODY)))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        for start in range(0, len(BODY), 2**18):
            writer.write(BODY[start : start + 2**18])
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(LAST)
        received = await asyncio.wait_for(reader.read(), 10)
        assert b"HTTP/1.1 200 OK" in received
        assert b"HTTP/1.1 4" not in received
        assert value("headwater_limits_reached_total", limit="header_too_long") == before
        writer.close()


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(deployment: Deployment, tmp_path: Path) -> None:
    async with before_a_site(deployment, tmp_path) as (parent, edge):
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        writer.write(post("/a", 4, "Expect: 100-continue"))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body" + LAST)
        got = answers(await asyncio.wait_for(reader.read(), 10))
        assert [answer.status for answer in got] == [200, 200]
        assert parent.requests[0].body == b"body"
        writer.close()


async def test_a_client_that_is_refused_is_not_asked_for_its_body(deployment: Deployment, tmp_path: Path) -> None:
    async with before_a_site(deployment, tmp_path) as (_, edge):
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        writer.write(post("/a/../b", 4, "Expect: 100-continue"))
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_a_body_may_take_longer_than_the_answer_to_it(deployment: Deployment, tmp_path: Path) -> None:
    cache = CacheSettings.model_validate({"first_byte_timeout": "500 ms"})
    async with before_a_site(deployment, tmp_path, cache=cache) as (parent, edge):
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        writer.write(post("/a", 6 * 10_000))
        for _ in range(6):
            writer.write(b"x" * 10_000)
            await asyncio.sleep(0.2)
        writer.write(LAST)
        got = answers(await asyncio.wait_for(reader.read(), 10))
        assert [answer.status for answer in got] == [200, 200]
        assert len(parent.requests[0].body) == 6 * 10_000
        writer.close()


async def test_a_parent_that_does_not_take_the_body_is_left(deployment: Deployment, tmp_path: Path) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.transport.abort()

    gone = asyncio.Event()
    cache = CacheSettings.model_validate({"first_byte_timeout": "500 ms"})
    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    parent = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    settings = Property(hosts=["www.test"], signed=False, parent=parent.url, shielded=False, cors=False)
    snapshot = Snapshot(version=1, deployment=deployment.model_copy(update={"properties": {"site": settings}}))
    async with running_edge(snapshot, tmp_path, cache) as edge:
        writing = bytes(64 * 2**20)  # more than sockets hold
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        writer.write(post("/a", len(writing)) + writing)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 504 ")
        writer.transport.abort()
    gone.set()
    server.close()
