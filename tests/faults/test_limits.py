"""Limits of a real edge, over real sockets: each has a name in the answer, the log and the metric."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.limits import Limits
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Property
from tests.support.proxies import RunningEdge, running_edge
from tests.support.rawhttp import answers, ask, exchange
from tests.support.scriptedparent import Asked, Script, ScriptedParent, header, scripted_parent, serving
from tests.support.waiting import until

GET = b"GET /%s HTTP/1.1\r\nHost: www.test\r\n\r\n"
LAST = b"GET /%s HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n"


def limits(**changed: object) -> Limits:
    return Limits.model_validate({"exempt": [], **changed})


@asynccontextmanager
async def limited(
    deployment: Deployment, folder: Path, limits: Limits, script: Script | None = None
) -> AsyncIterator[tuple[ScriptedParent, RunningEdge]]:
    async with scripted_parent(script or serving(b"body")) as parent:
        settings = Property(hosts=["www.test"], signed=False, parent=parent.address.url, shielded=False, cors=False)
        snapshot = Snapshot(version=1, deployment=deployment.model_copy(update={"properties": {"site": settings}}))
        async with running_edge(snapshot, folder, limits=limits) as edge:
            yield parent, edge


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: www.test\r\n\r\n", 414, "url_too_long"),
        (b"GET /a HTTP/1.1\r\nHost: www.test\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431, "header_field_too_long"),
        (b"GET /a HTTP/1.1\r\nHost: www.test\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431, "header_fields_too_many"),
        (b"GET /a HTTP/1.1\r\nHost: www.test\r\n" + (b"A: " + b"b" * 8000 + b"\r\n") * 5 + b"\r\n", 431, "header_too_long"),
    ],
)
async def test_a_header_has_its_limits(deployment: Deployment, tmp_path: Path, sent: bytes, status: int, reason: str) -> None:
    async with limited(deployment, tmp_path, limits()) as (parent, edge):
        before = value("headwater_limits_reached_total", limit=reason)
        answer = answers(
            await exchange(edge.address, sent.replace(b"Host: www.test\r\n", b"Host: www.test\r\nConnection: close\r\n"))
        )[0]
        assert (answer.status, answer.reason) == (status, reason)
        assert value("headwater_limits_reached_total", limit=reason) == before + 1
        assert f'"refusal":"{reason}"' in edge.log.getvalue()
        assert parent.asked == []


async def test_a_header_that_never_ends_is_refused_while_it_arrives(deployment: Deployment, tmp_path: Path) -> None:
    async with limited(deployment, tmp_path, limits(header="4 KiB")) as (_, edge):
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        writer.write(b"GET /a HTTP/1.1\r\n")
        received = asyncio.create_task(reader.read())
        while not received.done():
            writer.write(b"A: " + b"b" * 500 + b"\r\n")
            await asyncio.sleep(0.005)
        assert answers(await received)[0].reason == "header_too_long"
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /a HTTP/1.1\r\nHost: www"])
async def test_a_slow_header_ends(deployment: Deployment, tmp_path: Path, sent: bytes) -> None:
    async with limited(deployment, tmp_path, limits(header_timeout="200 ms", idle_timeout="300 ms")) as (_, edge):
        received = await exchange(edge.address, sent)
        if sent:
            assert (answers(received)[0].status, answers(received)[0].reason) == (408, "header_too_slow")
        else:
            assert received == b""  # nobody asked anything: closed as idle


async def test_a_header_that_drips_is_as_slow_as_one_that_stands_still(deployment: Deployment, tmp_path: Path) -> None:
    async with limited(deployment, tmp_path, limits(header_timeout="300 ms")) as (_, edge):
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        received = asyncio.create_task(reader.read())
        for byte in b"GET /a HTTP/1.1\r\nHost: www.test\r\nX: " + b"a" * 1000:
            if received.done():
                break
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.02)
        assert answers(await received)[0].reason == "header_too_slow"
        writer.close()


async def test_a_slow_body_ends(deployment: Deployment, tmp_path: Path) -> None:
    async def reads_all(asked: Asked, writer: asyncio.StreamWriter) -> None:
        """Answers when the body is whole, which it never is."""

    async with limited(deployment, tmp_path, limits(body_timeout="200 ms"), reads_all) as (_, edge):
        received = await exchange(edge.address, b"POST /a HTTP/1.1\r\nHost: www.test\r\nContent-Length: 100000\r\n\r\nsome")
        assert (answers(received)[0].status, answers(received)[0].reason) == (408, "body_too_slow")


async def test_an_idle_connection_is_closed_and_a_used_one_stays(deployment: Deployment, tmp_path: Path) -> None:
    async with limited(deployment, tmp_path, limits(idle_timeout="500 ms")) as (_, edge):
        before = value("headwater_limits_reached_total", limit="idle")
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        for _ in range(6):
            writer.write(GET % b"a")
            await reader.readuntil(b"body")
            await asyncio.sleep(0.15)
        assert value("headwater_limits_reached_total", limit="idle") == before
        assert await reader.read() == b""
        assert value("headwater_limits_reached_total", limit="idle") == before + 1
        writer.close()


async def test_a_client_that_does_not_read_is_cut_off(deployment: Deployment, tmp_path: Path) -> None:
    async with limited(deployment, tmp_path, limits(reader_timeout="300 ms"), serving(bytes(32 * 2**20))) as (_, edge):
        before = value("headwater_limits_reached_total", limit="reader_too_slow")
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (edge.address.host, edge.address.port))
        await asyncio.get_running_loop().sock_sendall(client, GET % b"large")
        await until(lambda: value("headwater_limits_reached_total", limit="reader_too_slow") > before)
        await until(lambda: edge.gate.connections == 0)
        client.close()
        await edge.settled()


async def test_a_client_has_so_many_connections(deployment: Deployment, tmp_path: Path) -> None:
    async with limited(deployment, tmp_path, limits(client_connections=3)) as (_, edge):
        held = [await asyncio.open_connection(edge.address.host, edge.address.port) for _ in range(3)]
        await until(lambda: edge.gate.connections == 3)
        answer = await ask(edge.address, GET % b"a")
        assert (answer.status, answer.reason, answer.fields["retry-after"]) == (503, "client_connections", "2")
        for _, writer in held:
            writer.close()
        await until(lambda: edge.gate.connections == 0)
        assert (await ask(edge.address, LAST % b"a")).status == 200


async def test_a_client_has_a_rate(deployment: Deployment, tmp_path: Path) -> None:
    async with limited(deployment, tmp_path, limits(client_rate=0.5, client_burst=3)) as (parent, edge):
        got = answers(await exchange(edge.address, GET % b"a" * 4 + LAST % b"a"))
        assert [answer.status for answer in got] == [200, 200, 200, 429, 429]
        assert (got[3].reason, got[3].fields["retry-after"]) == ("client_rate", "2")
        assert len(parent.asked) == 1


async def test_an_exempt_network_has_no_rate(deployment: Deployment, tmp_path: Path) -> None:
    async with limited(deployment, tmp_path, Limits(client_rate=0.5, client_burst=1)) as (_, edge):
        got = answers(await exchange(edge.address, GET % b"a" * 4 + LAST % b"a"))
        assert [answer.status for answer in got] == [200] * 5


async def test_an_overloaded_node_serves_what_it_has_and_refuses_the_rest(deployment: Deployment, tmp_path: Path) -> None:
    async with limited(deployment, tmp_path, limits(connections=8)) as (parent, edge):
        assert (await ask(edge.address, LAST % b"stored")).status == 200
        await edge.settled()
        held = [await asyncio.open_connection(edge.address.host, edge.address.port) for _ in range(8)]
        await until(lambda: edge.gate.connections == 8)
        assert (await ask(edge.address, LAST % b"stored")).status == 200
        for method in (b"GET", b"POST"):
            refused = await ask(edge.address, (LAST % b"other").replace(b"GET", method))
            assert (refused.status, refused.reason, refused.fields["retry-after"]) == (503, "connections", "2")
        held.append(await asyncio.open_connection(edge.address.host, edge.address.port))
        await until(lambda: edge.gate.connections == 9)
        assert (await ask(edge.address, LAST % b"stored")).reason == "connections"  # an eighth beyond: nothing at all
        assert len(parent.asked) == 1
        for _, writer in held:
            writer.close()
        await until(lambda: edge.gate.connections == 0)
        assert (await ask(edge.address, LAST % b"other")).status == 200


async def test_bytes_that_wait_for_slow_clients_are_bounded(deployment: Deployment, tmp_path: Path) -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = bytes(16 * 2**20) if "large" in asked.line else b"body"
        writer.write(header("200 OK", "Cache-Control: max-age=60", f"Content-Length: {len(body)}") + body)
        await writer.drain()

    async with limited(deployment, tmp_path, limits(bytes_in_flight="1 MiB"), script) as (_, edge):
        await edge.get("/large")
        await edge.settled()
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port, limit=1024)
        writer.write(GET % b"large")
        await until(lambda: edge.gate.overloaded())
        refused = await ask(edge.address, LAST % b"other")
        assert (refused.status, refused.reason) == (503, "bytes_in_flight")
        writer.transport.abort()
        await until(lambda: not edge.gate.overloaded())
        assert (await ask(edge.address, LAST % b"other")).status == 200
        del reader
