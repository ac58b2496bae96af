"""`python -m tests.drills dns [packets] [seed]`: mutated queries against the DNS server's answers, 100,000 by default.

Of whatever arrives: no crash, a reply that is readable and has the query's id, never a reply to a reply, and never an error over
UDP that is longer than what it answers, so that nobody can aim this server at a third party. As many packets again come in
batches through a socket, and each is answered there as it is alone.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address

import dns.edns
import dns.message
import dns.opcode
import structlog

from dnssteer.datagrams import serve_datagrams
from dnssteer.responder import Responder
from dnssteer.signing import OnlineSigning
from dnssteer.zonekeys import new_keys
from headwater.rules.addresses import Address
from headwater.settings.dnszone import RateLimit
from headwater.settings.snapshot import Snapshot
from tests.support.deployments import LAB, free_port, load_deployment

NEVER_ANSWERED_RCODES = frozenset({2})  # SERVFAIL would be a fault of ours
ERROR_RCODES = frozenset({1, 4, 5, 16, 23})  # FORMERR, NOTIMP, REFUSED, BADVERS, BADCOOKIE
UDP_BYTES = 1232
BATCH = 64
SOCKETS = 64
NOON = 1_800_000_000.0


@dataclass
class Campaign:
    """What was seen. `worst` is the largest error over its query."""

    outcomes: Counter[str] = field(default_factory=Counter)
    worst: float = 0.0
    faults: list[str] = field(default_factory=list)


def seeds() -> list[bytes]:
    option = dns.edns.GenericOption
    made = [
        dns.message.make_query("v3fa.cdn.test", "A"),
        dns.message.make_query("V3fA.cDn.test", "AAAA", use_edns=0),
        dns.message.make_query("_8443._https.v3fa.cdn.test", "HTTPS"),
        dns.message.make_query("v3fa.cdn.test", "A", use_edns=0, options=[dns.edns.ECSOption("198.51.100.0", 24)]),
        dns.message.make_query("cdn.test", "NS", want_dnssec=True),
        dns.message.make_query("cdn.test", "DNSKEY", want_dnssec=True),
        dns.message.make_query("nothing.cdn.test", "TXT", want_dnssec=True),
        dns.message.make_query("cdn.test", "IXFR", use_edns=0, options=[option(10, b"clientck")]),
        dns.message.make_query("v000.cdn.test", "A", use_edns=0, options=[option(10, b"clientck" + bytes(range(1, 17)))]),
        dns.message.make_query("www.example.org", "A", use_edns=0),
        dns.message.make_query("v3fa.cdn.test", "ANY", use_edns=3),
        dns.message.make_query("version.bind", "TXT", "CH"),
    ]
    update = dns.message.make_query("cdn.test", "SOA")
    update.set_opcode(dns.opcode.UPDATE)
    return [message.to_wire() for message in (*made, update)]


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut out, put in, doubled; counts and lengths more often than others."""
    wire = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        at = chance.randrange(len(wire)) if wire else 0
        match chance.randrange(7):
            case 0:
                wire[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del wire[at : at + chance.randint(1, 8)]
            case 2:
                wire[at:at] = chance.randbytes(chance.randint(1, 8))
            case 3:
                wire[4:12] = b"".join(chance.choice((0, 0, 1, 1, 2, 65535)).to_bytes(2, "big") for _ in range(4))
            case 4:
                wire[at : at + 1] = chance.choice((b"\xc0\x0c", b"\x00", b"\x3f", b"\xff", b"\x80"))
            case 5:
                wire += wire[at : at + chance.randint(1, 40)]
            case _:
                if wire:
                    wire[at] ^= 1 << chance.randrange(8)
    return bytes(wire[:2000])


def responders() -> list[Responder]:
    """One as in the lab, one that signs and insists on cookies; rate limits off, so that each packet is seen to its end."""
    made = []
    for require in (False, True):
        signing = OnlineSigning(new_keys(time.time()), 3600) if require else None
        made.append(Responder(unlimited(require), structlog.get_logger(), secrets=(bytes(range(16)),), signing=signing))
    return made


def unlimited(require_cookies: bool) -> Snapshot:
    """The lab without rate limits."""
    deployment = load_deployment(LAB)
    changed = {"rate_limit": RateLimit(answers=0, errors=0), "require_cookies": require_cookies}
    return Snapshot(version=1, deployment=deployment.model_copy(update={"dns": deployment.dns.model_copy(update=changed)}))


def run(packets: int, seed: int, servers: list[Responder]) -> Campaign:
    """Asks each server in turn; both transports."""
    chance, campaign, corpus = random.Random(seed), Campaign(), seeds()
    sources = [ip_address(text) for text in ("192.0.2.1", "203.0.113.9", "2001:db8::1")]
    for number in range(packets):
        wire = mutated(chance.choice(corpus), chance)
        server, source, over_tcp = servers[number % len(servers)], chance.choice(sources), number % 5 == 0
        reply = server.reply(wire, source, over_tcp=over_tcp)
        fault = _fault(wire, reply, campaign, over_tcp=over_tcp)
        if fault is not None:
            campaign.faults.append(f"{fault}: {wire.hex()} -> {reply.hex() if reply is not None else None}")
    return campaign


async def run_in_batches(packets: int, seed: int) -> list[str]:
    """Faults of a server behind a socket: what it answered otherwise than the same server asked for one packet alone."""
    chance, corpus, faults = random.Random(seed), seeds(), []
    alone, served = (
        # Of one moment, because cookies tell the time.
        Responder(unlimited(False), structlog.get_logger(), secrets=(bytes(range(16)),), clock=lambda: NOON)
        for _ in range(2)
    )
    address = Address("127.0.0.1", free_port())
    server = await serve_datagrams(served, address)
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(SOCKETS)]
    loop = asyncio.get_running_loop()
    try:
        for client in clients:
            client.connect((address.host, address.port))
        for _ in range(packets // BATCH):
            # Of some sockets many, of others one: both ways of sending replies.
            among = clients if chance.random() < 0.5 else clients[:4]
            expected: dict[socket.socket, list[bytes]] = {client: [] for client in among}
            for number in range(BATCH):
                wire, client = mutated(chance.choice(corpus), chance), among[number % len(among)]
                reply = alone.reply(wire, ip_address("127.0.0.1"), over_tcp=False)
                expected[client] += [reply] if reply is not None else []
                client.send(wire)
            for client, replies in expected.items():
                try:
                    async with asyncio.timeout(20):
                        got = [await loop.sock_recv(client, 4096) for _ in replies]
                except TimeoutError:
                    faults.append(f"of {len(replies)} replies some did not come: {[reply.hex() for reply in replies]}")
                    continue
                faults += [f"answered in a batch: {reply.hex()}" for reply in set(got) ^ set(replies)]
    finally:
        server.close()
        for client in clients:
            client.close()
    return faults


def _fault(wire: bytes, reply: bytes | None, campaign: Campaign, *, over_tcp: bool) -> str | None:
    if reply is None:
        campaign.outcomes["no reply"] += 1
        return None if len(wire) < 12 or wire[2] & 0x80 else "a query without a reply"
    if reply[:2] != wire[:2] or not reply[2] & 0x80:
        return "not a response to this query"
    try:
        message = dns.message.from_wire(reply)
    except Exception as error:
        return f"unreadable ({error!r})"
    rcode = int(message.rcode())
    campaign.outcomes[f"{message.rcode().name}{' truncated' if reply[2] & 2 else ''}"] += 1
    if rcode in NEVER_ANSWERED_RCODES:
        return "a fault of the server"
    if over_tcp:
        return None
    if len(reply) > UDP_BYTES:
        return "too large for UDP"
    if rcode in ERROR_RCODES or reply[2] & 2:
        campaign.worst = max(campaign.worst, len(reply) / len(wire))
        return "longer than its query" if len(reply) > len(wire) else None
    return None


def main(arguments: list[str]) -> int:
    packets, seed = int(arguments[0]) if arguments else 100_000, int(arguments[1]) if len(arguments) > 1 else 1
    started = time.monotonic()
    campaign = run(packets, seed, responders())
    campaign.faults += asyncio.run(run_in_batches(packets, seed))
    print(f"{packets} mutated packets (seed {seed}), and as many in batches, in {time.monotonic() - started:.0f} s")
    for outcome, count in campaign.outcomes.most_common():
        print(f"  {count:7}  {outcome}")
    print(f"  largest error or truncation over UDP: {campaign.worst:.2f} of its query")
    for fault in campaign.faults[:20]:
        print(f"  FAULT {fault}", file=sys.stderr)
    print(f"  {len(campaign.faults)} faults")
    return 1 if campaign.faults else 0
