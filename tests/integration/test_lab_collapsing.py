"""However many clients and POPs ask for one cold segment at once, the origin's byte server counts one request."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.support.lab import JsonObject, Lab
from tests.support.viewing import Viewer, at_edge, path_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]

CLIENTS = 500


@pytest_asyncio.fixture(loop_scope="session")
async def crowd() -> AsyncIterator[aiohttp.ClientSession]:
    """A client with a connection for each request."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    timeout = aiohttp.ClientTimeout(total=150)  # aiohttp gives a connection 30 s by default, which a busy machine may exceed
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield session
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cold_segments(lab: Lab, cold_video: str) -> list[str]:
    """URLs of segments that no cache has, largest rung first. Other tests watched this video, and no log says which parts,
    for a node that is killed loses its last lines. So all caches are emptied of it. Manifests are fetched here once and not
    again: their revalidation would be counted too."""
    purged = await asyncio.to_thread(lab.headwater, "purge", "-c", str(lab.config), "--video", cold_video)
    assert purged.returncode == 0, purged.stdout + purged.stderr
    playback = await lab.ask(f"/api/v1/videos/{cold_video}/playback", params={"via": "address"})
    urls = await Viewer(lab, lab.edges["fra-1"]).urls_of(playback["hls"])
    return sorted(url for url in urls if url.endswith(".m4s"))


async def ask_together(session: aiohttp.ClientSession, urls: list[str]) -> list[bytes]:
    """The bodies of all URLs, asked for at the same moment."""

    async def body(url: str) -> bytes:
        async with session.get(url) as response:
            assert response.status == 200, await response.text()
            return await response.read()

    return await asyncio.gather(*(body(url) for url in urls))


@pytest.mark.parametrize("edges", [["fra-1"], ["fra-1", "iad-1", "sin-1"]], ids=["one-edge", "three-edges"])
async def test_the_origin_counts_one_request_for_a_crowd(
    lab: Lab, cold_segments: list[str], crowd: aiohttp.ClientSession, edges: list[str]
) -> None:
    segment = cold_segments.pop()
    path = path_of(segment)
    earlier = {line["trace_id"] for line in lab.access_log("origin-bytes")}
    counted = await lab.metric("origin-bytes", "headwater_origin_requests_total")

    bodies = await ask_together(crowd, [at_edge(segment, lab.edges[edge]) for edge in edges for _ in range(CLIENTS)])

    assert len(bodies) == CLIENTS * len(edges)
    assert len(set(bodies)) == 1
    assert await lab.metric("origin-bytes", "headwater_origin_requests_total") - counted == 1

    def is_of_now(line: JsonObject) -> bool:
        return line["path"] == path and line["trace_id"] not in earlier

    await lab.logged("origin-bytes", is_of_now)
    assert len([line for line in lab.access_log("origin-bytes") if is_of_now(line)]) == 1
