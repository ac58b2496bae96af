"""A thousand clients that hardly read: what they cost a real edge process in memory."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater.settings.units import Address
from tests.support.certificates import authority
from tests.support.deployments import free_port
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, Script, header, scripted_parent

READERS = 1000
MIB = 1024 * 1024
BODY = os.urandom(4 * MIB)
AT_MOST = 64 * MIB
TLS_READERS = 250
TLS_AT_MOST = 96 * 1024  # each: OpenSSL's state of a connection alone takes some 40 KiB
FIELDS = ('ETag: "v1"', "Cache-Control: max-age=3600", f"Content-Length: {len(BODY)}")


def resident_bytes(pid: int) -> int:
    """Of the process and its children."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(resident_bytes, children))


@asynccontextmanager
async def slow_readers(edge: Address, path: str) -> AsyncIterator[list[socket.socket]]:
    """Connections with small windows that have read the first byte of their answer, and no more."""
    loop = asyncio.get_running_loop()

    async def reader() -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        connection.setblocking(False)
        await loop.sock_connect(connection, (edge.host, edge.port))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: www.shop.test\r\n\r\n".encode())
        assert await loop.sock_recv(connection, 8) == b"HTTP/1.1"
        return connection

    readers: list[socket.socket] = []
    try:
        for _ in range(READERS // 100):
            readers += await asyncio.gather(*(reader() for _ in range(100)))
        yield readers
    finally:
        for one in readers:
            one.close()


async def read_slowly(readers: list[socket.socket], each_bytes: int) -> None:
    """Every one reads a little more, so that what waits for it has moved on."""
    loop = asyncio.get_running_loop()

    async def some(connection: socket.socket) -> None:
        left = each_bytes
        while left > 0:
            chunk = await loop.sock_recv(connection, left)
            assert chunk, "the edge cut a reader off"
            left -= len(chunk)

    await asyncio.gather(*map(some, readers))


@asynccontextmanager
async def edge_before(script: Script, folder: Path, tls: JsonObject | None = None) -> AsyncIterator[Lab]:
    async with scripted_parent(script) as parent:

        def with_shop(content: JsonObject) -> None:
            content["properties"]["shop"] = {
                "hosts": ["www.shop.test"],
                "paths": "/shop/",
                "signed": False,
                "parent": parent.address.url,
                "shielded": False,
            }
            if tls is not None:
                content["pops"]["fra"]["edges"]["fra-1"]["tls"] = tls

        async with running_lab(folder, ("control", "fra-1"), with_shop) as lab:
            yield lab


async def whole(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(header("200 OK", *FIELDS) + BODY)
    await writer.drain()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["of a stored object", "of a running fill"])
async def test_a_thousand_slow_readers_cost_little_memory(tmp_path: Path, kind: str) -> None:
    go_on = asyncio.Event()

    async def in_two_parts(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", *FIELDS) + BODY[: 3 * MIB])
        await writer.drain()
        await go_on.wait()
        writer.write(BODY[3 * MIB :])
        await writer.drain()

    async with edge_before(whole if kind == "of a stored object" else in_two_parts, tmp_path) as lab:
        edge, pid = lab.edges["fra-1"], lab.processes["fra-1"].pid
        if kind == "of a stored object":
            assert (await lab.http.get(f"{edge.url}/shop/a")).content == BODY
        else:
            assert (await lab.http.get(f"{edge.url}/healthz")).status_code in (403, 404)
        before = resident_bytes(pid)
        async with slow_readers(edge, "/shop/a") as readers:
            await read_slowly(readers, 8 * 1024)
            go_on.set()
            during = resident_bytes(pid)
            print(f"{READERS} slow readers {kind}: {(during - before) / MIB:.1f} MiB more")
            assert during - before < AT_MOST
            assert (await lab.http.get(f"{edge.url}/shop/a")).content == BODY, "a reader at full speed is not held up"


def tls_readers(address: Address, context: ssl.SSLContext) -> list[ssl.SSLSocket]:
    """As `slow_readers`, over TLS. Blocking."""
    readers = []
    for _ in range(TLS_READERS):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        connection.connect((address.host, address.port))
        secured = context.wrap_socket(connection, server_hostname="www.shop.test")
        secured.sendall(b"GET /shop/a HTTP/1.1\r\nHost: www.shop.test\r\n\r\n")
        assert secured.recv(8) == b"HTTP/1.1"
        readers.append(secured)
    return readers


@pytest.mark.slow
async def test_a_slow_reader_over_tls_holds_a_record_and_not_its_body(tmp_path: Path) -> None:
    ca, listen = authority(tmp_path / "ca"), Address("127.0.1.1", free_port("127.0.1.1"))
    files = ca.issue("edge", "www.shop.test")
    certificates = [{"certificate": str(files.certificate), "key": str(files.key)}]
    async with edge_before(whole, tmp_path, {"listen": str(listen), "certificates": certificates}) as lab:
        edge, pid = lab.edges["fra-1"], lab.processes["fra-1"].pid
        assert (await lab.http.get(f"{edge.url}/shop/a")).content == BODY
        before = resident_bytes(pid)
        readers = await asyncio.to_thread(tls_readers, listen, ca.client())
        try:
            each = (resident_bytes(pid) - before) / TLS_READERS
        finally:
            for one in readers:
                one.close()
        print(f"{each / 1024:.0f} KiB a slow reader over TLS")
        assert each < TLS_AT_MOST
