"""Datagrams answered batch by batch are answered as each of them alone would be."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from ipaddress import ip_address

import dns.edns
import dns.message
import pytest
import structlog

from dnssteer.answer import Asker, Policy, answer
from dnssteer.batches import REST, Batches, key_bytes_for
from dnssteer.datagrams import serve_datagrams
from dnssteer.responder import Responder
from headwater.rules.addresses import Address
from headwater.settings.deployment import Deployment
from headwater.settings.dnszone import RateLimit
from headwater.settings.snapshot import Snapshot

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="recvmmsg and sendmmsg are Linux's")
NAMES = ("v3fa.cdn.test", "V3FA.cdn.test", "v000.CDN.tEsT", "cdn.test", "nothing.cdn.test", "www.example.org")


def queries() -> list[bytes]:
    """Of many kinds and lengths; among them pairs whose bytes in lower case are the same, and whose meaning is not."""
    subnets = [dns.edns.ECSOption(text, 24) for text in ("65.66.67.0", "97.98.99.0", "203.0.113.0")]
    made = [dns.message.make_query(name, kind) for name in NAMES for kind in ("A", "AAAA", "HTTPS", "TYPE97", "NS", "ANY")]
    made += [dns.message.make_query(name, "A", use_edns=0, options=[subnet]) for name in NAMES for subnet in subnets]
    made += [dns.message.make_query("v3fa.cdn.test", "A", use_edns=0, payload=size) for size in (512, 1232, 0x4141, 0x6161)]
    made += [
        dns.message.make_query("v3fa.cdn.test", "A", use_edns=0, pad=size, request_payload=4096) for size in (468, 512, 2048)
    ]
    wires = [message.to_wire() for message in made]
    # Zeros behind a query are no part of it, though its slot ends in zeros.
    return [*wires, wires[0] + bytes(1), wires[0] + bytes(40), b"x" * 5, b"", b"y" * 600, bytes(5000)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(("sockets", "segments"), [(3, True), (3, False), (100, True)])
async def test_a_batch_is_answered_as_each_of_its_datagrams_alone(
    deployment: Deployment, host: str, sockets: int, segments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From few sockets, and from one a query, as resolvers ask."""
    if not segments:
        monkeypatch.setattr("dnssteer.batches._has_segments", lambda sock: False)
    unlimited = deployment.dns.model_copy(update={"rate_limit": RateLimit(answers=0, errors=0)})
    snapshot = Snapshot(version=1, deployment=deployment.model_copy(update={"dns": unlimited}))
    responder = Responder(snapshot, structlog.get_logger())
    chance, loop = random.Random(1), asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    server = await serve_datagrams(responder, Address(host, port))
    clients = [socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(sockets)]
    try:
        for client in clients:
            client.connect((host, port))
        for _ in range(3):  # unremembered, remembered, remembered in another order
            asked = queries()
            chance.shuffle(asked)
            expected: list[set[bytes]] = [set() for _ in clients]
            for number, wire in enumerate(asked):
                wire = number.to_bytes(2, "big") + wire[2:] if len(wire) > 2 else wire
                one = number % sockets
                clients[one].send(wire)
                reply = answer(wire[:4096], Asker(ip_address(host)), responder.view.zone, responder.view.world, Policy()).wire
                expected[one] |= {reply} if reply is not None else set()
            for client, replies in zip(clients, expected, strict=True):
                async with asyncio.timeout(10):
                    got = [await loop.sock_recv(client, 4096) for _ in replies]
                assert {reply.hex() for reply in got} == {reply.hex() for reply in replies}
    finally:
        server.close()
        for client in clients:
            client.close()


async def test_replies_that_a_route_takes_only_one_by_one_are_lost_once() -> None:
    """UDP_SEGMENT on a message larger than its segments may be: refused as a device without checksums refuses any."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        sock.bind(("127.0.0.1", 0))
        client.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK: the kernel refuses segments
        batches = Batches(sock, key_bytes_for(100))
        for expected_lost in (2, 0):
            for _ in range(2):
                client.sendto(b"question", sock.getsockname())
            assert batches.receive() == 2
            pieces = [part for begin in batches.begins[:2] for part in (begin, REST.pack(8, struct.unpack("=Q", begin)[0], 8))]
            assert batches.send([(0, 16, pieces)]) == expected_lost
        assert [client.recv(100), client.recv(100)] == [b"question" * 2] * 2
