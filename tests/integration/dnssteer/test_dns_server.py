"""The DNS server on real sockets, asked by dnspython's resolver and by dig."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import dns.asyncquery
import dns.asyncresolver
import dns.edns
import dns.message
import dns.resolver
import pytest
import structlog

from dnssteer.responder import Responder
from dnssteer.sockets import serve_dns
from headwater.rules.addresses import Address
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot

LOG = structlog.get_logger()


@dataclass
class Server:
    responder: Responder
    address: Address
    deployment: Deployment

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False) -> list[str]:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [self.address.host], self.address.port
        return [record.to_text() for record in await resolver.resolve(name, kind, tcp=tcp, lifetime=5)]


@pytest.fixture
async def server(deployment: Deployment) -> AsyncIterator[Server]:
    responder = Responder(Snapshot(version=1, deployment=deployment), LOG, secrets=(bytes(range(16)),))
    address = deployment.dns.listen
    async with serve_dns(responder, address, idle_s=0.3, max_connections=2):
        yield Server(responder, address, deployment)


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_resolver_gets_the_edges_of_a_logical_host(server: Server, tcp: bool) -> None:
    assert await server.ask("v3fa.cdn.test", tcp=tcp) == ["127.0.1.1", "127.0.2.1"]


async def test_a_name_that_is_no_logical_host_does_not_exist(server: Server) -> None:
    with pytest.raises(dns.resolver.NXDOMAIN):
        await server.ask("v4096.cdn.test")


async def test_a_new_snapshot_changes_the_answer_at_once(server: Server) -> None:
    assert await server.ask("v3fa.cdn.test") == ["127.0.1.1", "127.0.2.1"]
    server.responder.use(Snapshot(version=2, deployment=server.deployment, health={"fra-1": "down"}))
    assert await server.ask("v3fa.cdn.test") == ["127.0.2.1", "127.0.3.1"]


async def test_a_remembered_answer_is_the_same_but_for_its_id(server: Server) -> None:
    before = value("headwater_dns_remembered_total")
    query = dns.message.make_query("v0aa.cdn.test", "A", use_edns=0, options=[dns.edns.ECSOption("203.0.113.0", 24)])
    replies = []
    for ident in (1, 2):
        query.id = ident
        replies.append(await dns.asyncquery.udp(query, server.address.host, 5, server.address.port))
    assert value("headwater_dns_remembered_total") == before + 1
    assert [reply.id for reply in replies] == [1, 2]
    assert replies[0].answer == replies[1].answer
    assert replies[0].options == replies[1].options


async def test_pipelined_questions_of_one_connection_are_answered_in_order(server: Server) -> None:
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    wires = [dns.message.make_query(f"v{number:03x}.cdn.test", "A", id=number).to_wire() for number in range(50)]
    # One write, cut at no message's border by the kernel or by us.
    writer.write(b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires))
    for number in range(50):
        reply = dns.message.from_wire(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
        assert reply.id == number
        assert reply.answer
    writer.close()
    await writer.wait_closed()


async def test_an_idle_connection_is_closed(server: Server) -> None:
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    writer.write(b"\x00")  # half of a length is no message
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert value("headwater_dns_tcp_ended_total", how="idle") > 0


async def test_one_connection_too_many_is_closed_and_counted(server: Server) -> None:
    before = value("headwater_dns_tcp_ended_total", how="too_many")
    held = [await asyncio.open_connection(server.address.host, server.address.port) for _ in range(3)]
    async with asyncio.timeout(5):
        assert await held[2][0].read() == b""
    assert value("headwater_dns_tcp_ended_total", how="too_many") == before + 1
    for _, writer in held:
        writer.close()
        await writer.wait_closed()


async def test_garbage_is_counted_and_the_next_question_is_answered(server: Server) -> None:
    before = value("headwater_dns_queries_total", transport="udp", qtype="OTHER", outcome="too_short")
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        for garbage in (b"", b"\x00" * 11, b"\xff" * 600):
            client.sendto(garbage, (server.address.host, server.address.port))
    assert await server.ask("v000.cdn.test")
    assert value("headwater_dns_queries_total", transport="udp", qtype="OTHER", outcome="too_short") == before + 2


async def test_a_port_in_use_is_one_sentence_that_names_the_cure(server: Server) -> None:
    with pytest.raises(CannotStart, match=r"is in use: stop the program that listens there \(`ss -lunp`\)"):
        async with serve_dns(server.responder, server.address):
            pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CannotStart, match="is in use"):
            async with serve_dns(server.responder, Address("127.0.0.1", taken.getsockname()[1])):
                pass


async def test_a_connection_that_is_open_when_the_server_drains_is_no_error(deployment: Deployment) -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    address, before = deployment.dns.listen, value("headwater_dns_tcp_ended_total", how="drained")
    async with serve_dns(Responder(Snapshot(version=1, deployment=deployment), LOG), address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        query = dns.message.make_query("v3fa.cdn.test", "A").to_wire()
        writer.write(len(query).to_bytes(2, "big") + query)
        await reader.readexactly(2)
    await reader.read()
    writer.close()
    assert value("headwater_dns_tcp_ended_total", how="drained") == before + 1
    assert reported == []


async def test_ipv4_clients_of_an_ipv6_address_are_answered_over_udp_and_tcp_alike(deployment: Deployment) -> None:
    """As at `[::]:53`: who is sent from UDP to TCP finds nobody there otherwise."""
    responder = Responder(Snapshot(version=1, deployment=deployment), LOG)
    server = Server(responder, Address("127.0.0.1", deployment.dns.listen.port), deployment)
    async with serve_dns(responder, Address("::ffff:127.0.0.1", server.address.port)):
        assert await server.ask("v3fa.cdn.test") == await server.ask("v3fa.cdn.test", tcp=True) == ["127.0.1.1", "127.0.2.1"]


async def dig(server: Server, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "dig", f"@{server.address.host}", "-p", str(server.address.port), "+tries=1", "+time=5", *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    assert b"WARNING" not in out.replace(b"WARNING: recursion requested but not available", b"")
    return out.decode()


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed")
async def test_dig_gets_what_it_asks_for(server: Server) -> None:
    assert (await dig(server, "+short", "v3fa.cdn.test")).split() == ["127.0.1.1", "127.0.2.1"]
    assert (await dig(server, "+short", "+tcp", "+subnet=203.0.113.0/24", "v3fa.cdn.test")).split()[0] == "127.0.3.1"
    assert "CLIENT-SUBNET: 203.0.113.0/24/24" in await dig(server, "+subnet=203.0.113.0/24", "v3fa.cdn.test")
    assert "CLIENT-SUBNET: 0.0.0.0/0/0" in await dig(server, "+subnet=0", "v3fa.cdn.test")
    assert "status: NXDOMAIN" in await dig(server, "nothing.cdn.test")
    assert "status: REFUSED" in await dig(server, "example.org")
    assert "RFC8482" in await dig(server, "ANY", "v3fa.cdn.test")
    assert "status: BADVERS" in await dig(server, "+edns=3", "+noednsneg", "v3fa.cdn.test")
    assert "status: NOTIMP" in await dig(server, "+opcode=status", "cdn.test")


async def kdig(server: Server, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "kdig", f"@{server.address.host}", "-p", str(server.address.port), "+retry=0", "+timeout=5", *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    assert b"WARNING" not in out, out
    return out.decode()


@pytest.mark.skipif(shutil.which("kdig") is None, reason="kdig (knot-dnsutils) is not installed")
async def test_kdig_gets_what_it_asks_for(server: Server) -> None:
    assert (await kdig(server, "+short", "v3fa.cdn.test")).split() == ["127.0.1.1", "127.0.2.1"]
    assert (await kdig(server, "+short", "+tcp", "+keepopen", "v3fa.cdn.test", "v3fa.cdn.test")).split() == 2 * [
        "127.0.1.1",
        "127.0.2.1",
    ]
    cookie = await kdig(server, "+cookie", "v3fa.cdn.test")
    assert "COOKIE: " in cookie
    assert "status: NOERROR" in await kdig(
        server, "+badcookie", "+cookie=0102030405060708000000000000000000000000", "v3fa.cdn.test"
    )
    assert "NS ns1.cdn.test." in " ".join((await kdig(server, "cdn.test", "NS")).split())
    assert "status: NOERROR" in await kdig(server, "cdn.test", "CAA")
    assert "status: NXDOMAIN" in await kdig(server, "nothing.cdn.test", "TXT")
    assert "HINFO" in await kdig(server, "v3fa.cdn.test", "ANY")


async def test_a_burst_of_datagrams_is_answered_to_the_last(server: Server) -> None:
    """More than one batch, with silence for some in the middle; each reply is that of its own query."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        client.connect((server.address.host, server.address.port))
        client.setblocking(False)
        for number in range(150):
            client.send(dns.message.make_query(f"v{number:03X}.cdn.test", "A", id=number).to_wire() if number % 7 else b"\x00")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            replies = [dns.message.from_wire(await loop.sock_recv(client, 2000)) for number in range(150) if number % 7]
    assert [reply.id for reply in replies] == [number for number in range(150) if number % 7]
    assert all(reply.answer[0].name.to_text() == f"v{reply.id:03X}.cdn.test." for reply in replies)
