"""Large bodies that lie as pages go out by `sendfile`, from the lane and from the ordinary handler, and are the same bytes."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from headwater.cacheproxy.front.doors import Door
from headwater.cacheproxy.store.rambody import PATIENCE, Pages, RamBody
from headwater.rules.proxyheader import SIGNATURE
from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.runtime.metrics import value
from headwater.runtime.tls import Certificates
from headwater.settings.listening import ProxyProtocol, Tls
from headwater.settings.units import Address
from tests.support.certificates import authority
from tests.support.deployments import free_port
from tests.support.lanes import BODIES, PLAIN, VIDEO, Talk, parent_script, snapshot_for, tokens, two_edges
from tests.support.proxies import RunningEdge, running_edge
from tests.support.scriptedparent import scripted_parent
from tests.support.waiting import until

LARGE = BODIES["large"]
KEY = f"video{VIDEO}h264/large"


def get(*fields: str) -> bytes:
    return "\r\n".join([f"GET /{tokens()['valid']}{VIDEO}h264/large HTTP/1.1", *PLAIN, *fields, "", ""]).encode()


def is_open(inode: int) -> bool:
    """Whether this process has the file open."""
    gc.collect()
    numbers = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return inode in [os.fstat(number).st_ino for number in numbers if Path(f"/proc/self/fd/{number}").exists()]


def body_in(edge: RunningEdge) -> RamBody:
    stored = edge.store.in_ram(KEY)
    assert stored is not None
    assert isinstance(stored.body, RamBody)
    return stored.body


@asynccontextmanager
async def paged_edge(folder: Path, *, lane: bool = True) -> AsyncIterator[RunningEdge]:
    """An edge whose large object lies as pages."""
    async with two_edges(folder) as edges:
        edge = edges.fast if lane else edges.slow
        async with Talk.with_(edge) as talk:
            for _ in range(PATIENCE + 2):
                await talk.say(get())
        assert body_in(edge).as_bytes is None
        yield edge


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "ordinary"])
async def test_the_bytes_are_the_same_whole_and_in_parts(tmp_path: Path, lane: bool) -> None:
    async with paged_edge(tmp_path, lane=lane) as edge, Talk.with_(edge) as talk:
        for fields in ((), ("Range: bytes=1000-180000",), ("Range: bytes=7-8",), ("Range: bytes=0-4,100-140000",), ()):
            await talk.say(get(*fields))
        bodies = [said.partition(b"\r\n\r\n")[2] for said in talk.said]
        assert bodies[0] == bodies[4] == LARGE
        assert bodies[1] == LARGE[1000:180001]
        assert bodies[2] == LARGE[7:9]
        assert LARGE[100:140001] in bodies[3]
        assert body_in(edge).as_bytes is None


async def test_a_client_that_resets_its_connection_amid_the_pages_leaves_nothing_behind(tmp_path: Path) -> None:
    async with paged_edge(tmp_path) as edge:
        pages = body_in(edge).pages_or_data()
        assert isinstance(pages, Pages)
        inode = os.fstat(pages.fileno()).st_ino
        del pages
        assert is_open(inode)
        assert value("headwater_store_ram_pages") >= 1
        for _ in range(5):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the transfer cannot end
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, (edge.address.host, edge.address.port))
            await asyncio.get_running_loop().sock_sendall(client, get())
            assert await asyncio.get_running_loop().sock_recv(client, 100)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        await until(lambda: edge.gate.connections == 0)
        await asyncio.to_thread(edge.store.purges.take, [PurgeRecord(1, PurgeKind.OBJECT, KEY, False, 0.0)])
        assert edge.store.in_ram(KEY) is None
        assert not is_open(inode)


async def test_who_reads_slowly_gets_all_of_a_body_that_was_purged_meanwhile(tmp_path: Path) -> None:
    async with paged_edge(tmp_path) as edge:
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port, limit=2**12)
        for _ in range(60):  # more than the sockets hold
            writer.write(get())
            await writer.drain()
        await asyncio.sleep(0)
        await asyncio.to_thread(edge.store.purges.take, [PurgeRecord(1, PurgeKind.OBJECT, KEY, False, 0.0)])
        for _ in range(60):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 OK" in head
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            assert await reader.readexactly(int(length[1])) == LARGE
        writer.close()
        await writer.wait_closed()


async def test_tls_gets_copies_of_pages_and_has_bytes_again_when_only_it_asks(tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    async with scripted_parent(parent_script) as parent:
        snapshot = snapshot_for(tmp_path / "a", parent)
        plain = snapshot.deployment.edge("fra-1").listen
        secured = Address(plain.host, free_port(plain.host))
        tls = Tls.model_validate({"listen": secured, "certificates": [ca.issue("a", "v3fa.cdn.test")]})
        doors = [Door(plain), Door(secured, Certificates(tls, structlog.get_logger()))]
        async with running_edge(snapshot, tmp_path / "a", doors=doors) as edge, Talk.with_(edge) as talk:
            for _ in range(PATIENCE + 2):
                await talk.say(get())
            opened = await asyncio.open_connection(secured.host, secured.port, ssl=ca.client(), server_hostname="v3fa.cdn.test")
            over_tls = Talk(*opened)
            await over_tls.say(get())
            assert body_in(edge).as_bytes is None
            await over_tls.say(get("Range: bytes=100-180000"))
            for _ in range(PATIENCE):
                await over_tls.say(get())
            assert body_in(edge).as_bytes == LARGE
            bodies = [said.partition(b"\r\n\r\n")[2] for said in over_tls.said]
            assert bodies.pop(1) == LARGE[100:180001]
            assert set(bodies) == {LARGE}
            over_tls.writer.close()
            await over_tls.writer.wait_closed()


async def test_a_client_behind_a_balancer_is_sent_pages_too(tmp_path: Path) -> None:
    async with scripted_parent(parent_script) as parent:
        snapshot = snapshot_for(tmp_path / "a", parent)
        listen = snapshot.deployment.edge("fra-1").listen
        door = Door(listen, balancers=ProxyProtocol.model_validate({"networks": ["127.0.0.0/8"]}))
        told = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 127, 0, 0, 1]) + struct.pack(">HH", 4000, 80)
        async with running_edge(snapshot, tmp_path / "a", doors=[door]) as edge, Talk.with_(edge) as talk:
            talk.writer.write(told)
            for _ in range(PATIENCE + 3):
                await talk.say(get())
            assert body_in(edge).as_bytes is None
            assert {said.partition(b"\r\n\r\n")[2] for said in talk.said} == {LARGE}
