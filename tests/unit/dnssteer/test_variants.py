"""Queries with options, answered from the plain query's answer: byte for byte what the long way says."""

from __future__ import annotations

import random
from collections import defaultdict
from ipaddress import ip_address

import dns.edns
import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnssteer import cookies
from dnssteer.answer import Asker, Policy, answer
from dnssteer.cookies import Judged, Shown
from dnssteer.memory import Memory
from dnssteer.variants import varied
from dnssteer.zone import zone_of
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of
from tests.drills.dns import mutated
from tests.support.deployments import LAB, load_deployment

SNAPSHOT = Snapshot(version=3, deployment=load_deployment(LAB))
ZONE, WORLD = zone_of(SNAPSHOT), world_of(SNAPSHOT)
SECRET, NOW = bytes(range(16)), 1_800_000_000.0
MEMORIES: dict[str, Memory] = defaultdict(Memory)
SOURCES = [ip_address(text) for text in ("192.0.2.1", "203.0.113.9", "2001:db8::1")]
NAMES = ("v3fa.cdn.test", "V3fA.cDn.tEsT", "_8443._https.v000.cdn.test", "_https.v000.cdn.test", "cdn.test", "ns1.cdn.test",
         "nothing.cdn.test", "www.example.org", ".")  # fmt: skip
KINDS = ("A", "AAAA", "HTTPS", "NS", "SOA", "TXT", "ANY", "TYPE97", "AXFR")


def good(client_cookie: bytes, source: int, age_s: int) -> bytes:
    return client_cookie + cookies.server_cookie(client_cookie, SOURCES[source], SECRET, NOW - age_s)


SUBNETS = st.builds(
    lambda number, bits: dns.edns.ECSOption(str(ip_address(number >> (32 - bits) << (32 - bits) if bits else 0)), bits),
    st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0xC0000201, 0xC6336401, 0xCB007101])),
    st.sampled_from([0, 8, 16, 23, 24, 32]),
)
OPTIONS = st.one_of(
    SUBNETS,
    st.sampled_from([dns.edns.ECSOption("2001:db8::", 56), dns.edns.GenericOption(8, b"\x00\x00\x00\x00")]),
    st.builds(lambda value: dns.edns.GenericOption(10, value), st.sampled_from([b"clientck", b"CLIENTCK" + bytes(16), b"short"])),
    st.builds(
        lambda source, age_s: dns.edns.GenericOption(10, good(b"clientck", source, age_s)),
        st.integers(0, 2),
        st.sampled_from([0, 1799, 1801, 3601, -301]),
    ),
    st.builds(
        lambda code, value: dns.edns.GenericOption(code, value), st.sampled_from([3, 8, 12, 65001]), st.binary(max_size=20)
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(NAMES), st.sampled_from(KINDS), st.lists(OPTIONS, max_size=3), st.sampled_from([0, 512, 1232, 4096]),
    st.integers(0, 2), st.booleans(), st.booleans(), st.booleans(), st.one_of(st.none(), st.randoms(use_true_random=False)),
)  # fmt: skip
def test_a_query_with_options_is_answered_as_the_long_way_answers_it(
    name: str, kind: str, options: list[dns.edns.Option], payload: int, source: int, over_tcp: bool, require: bool,
    dnssec_ok: bool, chance: random.Random | None,
) -> None:  # fmt: skip
    query = dns.message.make_query(name, kind, use_edns=0, payload=payload, options=options, want_dnssec=dnssec_ok)
    wire = query.to_wire()
    if chance is not None:
        wire = mutated(wire, chance)
    asker, policy = Asker(SOURCES[source], over_tcp, NOW), Policy((SECRET,), require)
    memory = MEMORIES if not over_tcp else defaultdict(Memory)
    expected = answer(wire, asker, ZONE, WORLD, policy)
    for _ in ("made", "remembered"):
        found = varied(wire, asker, ZONE, WORLD, policy, memory.__getitem__, Judged())
        assert found is None or (found, found.named) == (expected, expected.named)


@pytest.mark.parametrize(
    "option",
    [dns.edns.ECSOption("203.0.113.0", 24), dns.edns.GenericOption(10, b"clientck"), dns.edns.GenericOption(12, bytes(9))],
)
def test_the_usual_options_take_the_short_way(option: dns.edns.Option) -> None:
    wire = dns.message.make_query("V3fa.cdn.test", "A", use_edns=0, options=[option]).to_wire()
    asker = Asker(SOURCES[0], now=NOW)
    assert varied(wire, asker, ZONE, WORLD, Policy((SECRET,)), MEMORIES.__getitem__, Judged()) is not None


def test_what_was_said_of_a_cookie_holds_for_its_client_alone_and_not_longer_than_the_cookie() -> None:
    judged, secrets = Judged(), (SECRET,)
    option = good(b"clientck", 0, 3590)
    assert judged.judged(option, SOURCES[0], secrets, NOW)[0] is Shown.GOOD
    assert judged.judged(option, SOURCES[1], secrets, NOW)[0] is Shown.BAD
    assert judged.judged(option, SOURCES[0], secrets, NOW + 9)[0] is Shown.GOOD
    assert judged.judged(option, SOURCES[0], secrets, NOW + 11)[0] is Shown.BAD
    fresh = good(b"clientck", 0, 0)
    assert judged.judged(fresh, SOURCES[0], secrets, NOW) == (Shown.GOOD, fresh)
