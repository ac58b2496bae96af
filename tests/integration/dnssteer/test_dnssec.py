"""A signed zone, validated by unbound and by delv: answers, what does not exist, and answers by client subnet."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.asyncquery
import dns.dnssec
import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
import structlog

from dnssteer.responder import Responder
from dnssteer.signing import OnlineSigning
from dnssteer.sockets import serve_dns
from dnssteer.zonekeys import KeySet, ZoneKeys
from headwater.rules.addresses import Address
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from tests.support.validating import validating

LOG = structlog.get_logger()
ORIGIN = dns.name.from_text("cdn.test")


@dataclass
class Server:
    address: Address
    keys: KeySet
    responder: Responder
    folder: Path


@pytest.fixture
async def server(deployment: Deployment, tmp_path: Path) -> AsyncIterator[Server]:
    keys = ZoneKeys(tmp_path / "keys", "cdn.test").current
    records = {"a.b": {"TXT": ['"deep"']}}
    deployment = deployment.model_copy(update={"dns": deployment.dns.model_copy(update={"dnssec": True, "records": records})})
    responder = Responder(Snapshot(version=1, deployment=deployment), LOG, signing=OnlineSigning(keys, 3600))
    async with serve_dns(responder, deployment.dns.listen):
        yield Server(deployment.dns.listen, keys, responder, tmp_path)


async def asked(server: Server, name: str, kind: str, subnet: str | None = None) -> dns.message.Message:
    options = [dns.edns.ECSOption(subnet, 24)] if subnet else []
    query = dns.message.make_query(name, kind, want_dnssec=True, options=options)
    reply, _ = await dns.asyncquery.udp_with_fallback(query, server.address.host, 5, server.address.port)
    return reply


async def test_every_set_of_every_answer_is_signed_by_the_key(server: Server) -> None:
    keys = {ORIGIN: server.keys.records(dns.rdatatype.DNSKEY, ORIGIN, 3600)}
    questions = [
        ("v3fa.cdn.test", "A"), ("V3FA.cdn.TEST", "A"), ("v3fa.cdn.test", "AAAA"), ("v3fa.cdn.test", "ANY"), ("cdn.test", "SOA"),
        ("cdn.test", "NS"), ("cdn.test", "DNSKEY"), ("cdn.test", "DS"), ("cdn.test", "CDS"),
        ("cdn.test", "CDNSKEY"), ("a.b.cdn.test", "TXT"), ("b.cdn.test", "TXT"),
        ("nothing.cdn.test", "A"), ("x.v3fa.cdn.test", "A"), ("x.y.z.cdn.test", "A"), ("v3fa.cdn.test", "NSEC"),
    ]  # fmt: skip
    for name, kind in questions:
        reply = await asked(server, name, kind)
        sets = [rrset for rrset in (*reply.answer, *reply.authority) if rrset.rdtype != dns.rdatatype.RRSIG]
        assert sets
        for rrset in sets:
            section = reply.answer if rrset in reply.answer else reply.authority
            signature = reply.find_rrset(section, rrset.name, rrset.rdclass, dns.rdatatype.RRSIG, rrset.rdtype)
            dns.dnssec.validate(rrset, signature, keys)


async def test_who_does_not_ask_for_signatures_gets_none(server: Server) -> None:
    query = dns.message.make_query("nothing.cdn.test", "A")
    reply = await dns.asyncquery.udp(query, server.address.host, 5, server.address.port)
    assert [rrset.rdtype for rrset in (*reply.answer, *reply.authority)] == [dns.rdatatype.SOA]


@asynccontextmanager
async def unbound(server: Server) -> AsyncIterator[dns.resolver.Resolver]:
    async with validating(server.folder, server.keys.delegation(ORIGIN, 3600), {"cdn.test": server.address}) as resolver:
        yield resolver


VALIDATED = [
    # name, type, rcode, records
    ("v3fa.cdn.test", "A", dns.rcode.NOERROR, 2),
    ("V0aB.cdn.test", "A", dns.rcode.NOERROR, 2),
    ("v3fa.cdn.test", "AAAA", dns.rcode.NOERROR, 0),
    ("cdn.test", "A", dns.rcode.NOERROR, 0),
    ("cdn.test", "DNSKEY", dns.rcode.NOERROR, 2),
    ("cdn.test", "CDS", dns.rcode.NOERROR, 1),
    ("a.b.cdn.test", "TXT", dns.rcode.NOERROR, 1),
    ("b.cdn.test", "TXT", dns.rcode.NOERROR, 0),
    ("nothing.cdn.test", "A", dns.rcode.NXDOMAIN, 0),
    ("x.v3fa.cdn.test", "A", dns.rcode.NXDOMAIN, 0),
    ("x.y.z.cdn.test", "TXT", dns.rcode.NXDOMAIN, 0),
    ("[.cdn.test", "A", dns.rcode.NXDOMAIN, 0),
    ("*.cdn.test", "A", dns.rcode.NXDOMAIN, 0),
]


@pytest.mark.skipif(shutil.which("unbound") is None, reason="unbound is not installed")
async def test_unbound_finds_all_of_it_authentic(server: Server) -> None:
    async with unbound(server) as resolver:
        for name, kind, rcode, count in VALIDATED:
            query = dns.message.make_query(name, kind, want_dnssec=True)
            reply = await dns.asyncquery.tcp(query, "127.0.0.1", 10, resolver.port)
            assert reply.rcode() == rcode, name
            assert reply.flags & dns.flags.AD, f"{name} {kind} is not authentic"
            assert sum(len(rrset) for rrset in reply.answer if rrset.rdtype != dns.rdatatype.RRSIG) == count, name
        for subnet, best in (("203.0.113.0", "127.0.3.1"), ("198.51.100.0", "127.0.2.1")):
            query = dns.message.make_query("v3fb.cdn.test", "A", want_dnssec=True, options=[dns.edns.ECSOption(subnet, 24)])
            reply = await dns.asyncquery.tcp(query, "127.0.0.1", 10, resolver.port)
            assert reply.flags & dns.flags.AD
            assert reply.answer[0][0].to_text() == best


@pytest.mark.skipif(shutil.which("unbound") is None, reason="unbound is not installed")
async def test_unbound_refuses_what_another_key_signed(server: Server) -> None:
    other = ZoneKeys(server.folder / "other", "cdn.test").current
    async with unbound(Server(server.address, other, server.responder, server.folder)) as resolver:
        reply = await dns.asyncquery.tcp(dns.message.make_query("v3fa.cdn.test", "A"), "127.0.0.1", 10, resolver.port)
        assert reply.rcode() == dns.rcode.SERVFAIL


@pytest.mark.skipif(shutil.which("delv") is None, reason="delv (bind9-dnsutils) is not installed")
async def test_delv_validates_answers_and_denials(server: Server) -> None:
    record = server.keys.of_keys[0].record.to_text().split(maxsplit=3)
    anchor = server.folder / "anchor.conf"
    anchor.write_text(
        f'trust-anchors {{ "cdn.test." static-key {record[0]} {record[1]} {record[2]} "{"".join(record[3].split())}"; }};'
    )
    said = {"v3fa.cdn.test A": "; fully validated", "v3fa.cdn.test AAAA": "nxrrset", "no.cdn.test A": "nxdomain"}
    for question, expected in said.items():
        process = await asyncio.create_subprocess_exec(
            "delv", f"@{server.address.host}", "-p", str(server.address.port), "-a", str(anchor), "+root=cdn.test",
            *question.split(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert expected in out.decode(), question
        assert "fully validated" in out.decode(), question
