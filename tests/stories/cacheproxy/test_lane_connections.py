"""A connection whose requests all go through the lane costs no ordinary handler; it has one from the first that needs it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from headwater.cacheproxy.store.rambody import PATIENCE
from headwater.runtime.metrics import value
from headwater.settings.limits import Limits
from tests.support.lanes import BODIES, HEADS, PLAIN, VIDEO, Talk, parent_script, snapshot_for, tokens, two_edges
from tests.support.proxies import RunningEdge, running_edge
from tests.support.scriptedparent import scripted_parent
from tests.support.waiting import until

HUGE = bytes(range(256)) * 32 * 1024  # 8 MiB: more than sockets hold


@pytest.fixture(autouse=True)
def a_huge_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BODIES, "huge", HUGE)
    monkeypatch.setitem(HEADS, "huge", HEADS["small"])


def get(name: str = "small", *fields: str) -> bytes:
    return "\r\n".join([f"GET /{tokens()['valid']}{VIDEO}h264/{name} HTTP/1.1", *PLAIN, *fields, "", ""]).encode()


async def test_a_connection_has_an_ordinary_handler_from_its_first_request_that_needs_one(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as edges:
        edge = edges.fast
        async with Talk.with_(edge) as other:
            await other.say(get())
            await edge.settled()
            before = len(edge.server.connections)
            async with Talk.with_(edge) as talk:
                await talk.say(get())
                await talk.say(get())
                assert len(edge.server.connections) == before
                await talk.say(get("small", "Range: bytes=0-4"))
                assert len(edge.server.connections) == before + 1
                laned = value("headwater_cache_fast_lane_total")
                await talk.say(get())
                assert value("headwater_cache_fast_lane_total") == laned + 1
                assert [said[9:12] for said in talk.said] == [b"200", b"200", b"206", b"200"]
        await until(lambda: edge.gate.connections == 0)


async def test_a_handler_that_begins_while_the_client_takes_nothing_answers_behind_the_lane(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as edges, Talk.with_(edges.fast) as warm:
        edge = edges.fast
        for _ in range(PATIENCE + 2):
            await warm.say(get("huge"))
        handlers = len(edge.server.connections)
        slow = await slow_client(edge)
        assert len(edge.server.connections) == handlers
        await asyncio.get_running_loop().sock_sendall(slow, get("huge", "Connection: close", "Range: bytes=5-150004"))
        received = await asyncio.wait_for(read_to_the_end(slow), 10)
        first, second = received[: received.index(b"\r\n\r\n") + 4], received[received.index(b"\r\n\r\n") + 4 :]
        assert b" 200 OK" in first
        assert second.startswith(HUGE + b"HTTP/1.1 206 Partial Content")
        assert second.endswith(b"\r\n\r\n" + HUGE[5:150005])
        slow.close()


async def test_a_node_that_ends_sends_what_the_lane_has_answered_and_closes_idle_connections(tmp_path: Path) -> None:
    async with scripted_parent(parent_script) as parent:
        snapshot = snapshot_for(tmp_path / "a", parent)
        async with running_edge(snapshot, tmp_path / "a", drain_s=30) as edge:
            idle = Talk(*await asyncio.open_connection(edge.address.host, edge.address.port))
            for _ in range(PATIENCE + 2):
                await idle.say(get("huge"))
            slow = await slow_client(edge)
            reading = asyncio.create_task(read_to_the_end(slow))
        assert edge.gate.connections == 0  # nothing was left to a process that is gone
        assert (await asyncio.wait_for(reading, 30)).endswith(b"\r\n\r\n" + HUGE)
        assert await idle.reader.read() == b""
        slow.close()
        idle.writer.close()
        await idle.writer.wait_closed()


async def test_a_client_that_took_long_to_read_is_not_idle_when_it_has_read(tmp_path: Path) -> None:
    limits = Limits.model_validate({"idle_timeout": "1 s", "reader_timeout": "20 s"})
    async with scripted_parent(parent_script) as parent:
        snapshot = snapshot_for(tmp_path / "a", parent)
        async with running_edge(snapshot, tmp_path / "a", limits=limits) as edge, Talk.with_(edge) as warm:
            for _ in range(PATIENCE + 2):
                await warm.say(get("huge"))
            slow, loop = await slow_client(edge), asyncio.get_running_loop()
            await asyncio.sleep(1.5)
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
            received = b""
            while not received.endswith(b"\r\n\r\n" + HUGE):
                received += await asyncio.wait_for(loop.sock_recv(slow, 1024 * 1024), 10)
            await until(lambda: edge.gate.bytes_in_flight == 0)
            await asyncio.sleep(0.3)  # a sweep has seen it
            await loop.sock_sendall(slow, get("small"))
            assert (await asyncio.wait_for(loop.sock_recv(slow, 1024), 10)).startswith(b"HTTP/1.1 200 OK")
            slow.close()


async def slow_client(edge: RunningEdge) -> socket.socket:
    """A client that was answered by the lane and has taken next to nothing of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # an answer does not fit
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (edge.address.host, edge.address.port))
    laned = value("headwater_cache_fast_lane_total")
    await loop.sock_sendall(client, get("huge"))
    await until(lambda: value("headwater_cache_fast_lane_total") == laned + 1)
    await until(lambda: edge.gate.bytes_in_flight > 0)  # so the transport waits for it
    return client


async def read_to_the_end(connection: socket.socket) -> bytes:
    """All that comes, a little at a time."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
    received = b""
    while piece := await asyncio.get_running_loop().sock_recv(connection, 256 * 1024):
        received += piece
        await asyncio.sleep(0)
    return received
