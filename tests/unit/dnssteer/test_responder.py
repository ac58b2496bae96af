"""Memory, rate limiting and counting of the server behind the sockets."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from dnssteer.ratelimit import ERRORS, Limits, RateLimiter, Verdict
from dnssteer.responder import Responder
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.dnszone import RateLimit
from headwater.settings.snapshot import Snapshot
from tests.support.deployments import LAB, load_deployment

LOG = structlog.get_logger()
HERE, THERE = ip_address("192.0.2.7"), ip_address("203.0.113.7")


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def limited(answers: int = 0, errors: int = 0, slip: int = 2) -> Deployment:
    deployment = load_deployment(LAB)
    limit = RateLimit(answers=answers, errors=errors, slip=slip)
    return deployment.model_copy(update={"dns": deployment.dns.model_copy(update={"rate_limit": limit})})


def responder(deployment: Deployment, clock: Clock | None = None) -> Responder:
    return Responder(Snapshot(version=1, deployment=deployment), LOG, secrets=(bytes(16),), clock=clock or Clock())


UNLIMITED = responder(limited())


@settings(max_examples=30, deadline=None)
@given(st.text("v3faV3FA", min_size=4, max_size=4), st.text("cdnCDN", min_size=3, max_size=3), st.sampled_from(["A", "HTTPS"]))
def test_an_answer_from_memory_is_the_answer_but_for_the_case_of_its_name(label: str, rest: str, kind: str) -> None:
    """Resolvers draw the case at random (0x20), so a memory that wants it exact would never help them."""
    name = f"{label}.{rest}.tEsT"
    wire = dns.message.make_query(name, kind, id=7).to_wire()
    first = UNLIMITED.reply(wire, HERE, over_tcp=False)
    assert first is not None
    again = UNLIMITED.reply(b"\x12\x34" + wire[2:], HERE, over_tcp=False)
    assert again == b"\x12\x34" + first[2:]
    assert first[12 : 12 + len(name) + 2] == wire[12 : 12 + len(name) + 2]
    fresh = responder(limited()).reply(wire, HERE, over_tcp=False)
    assert first == fresh


def test_a_randomised_case_is_answered_from_memory() -> None:
    server = responder(limited())
    for name in ("v3fa.cdn.test", "V3Fa.cDn.TeSt", "v3FA.CDN.test"):
        reply = server.reply(dns.message.make_query(name, "A").to_wire(), HERE, over_tcp=False)
        assert reply is not None
        assert dns.message.from_wire(reply).answer[0].name.to_text() == name + "."
    before = value("headwater_dns_remembered_total")
    server.reply(dns.message.make_query("V3FA.cdn.test", "A").to_wire(), HERE, over_tcp=False)
    assert value("headwater_dns_remembered_total") == before + 1


def test_the_bytes_of_a_client_subnet_are_no_letters() -> None:
    """65.66.67.0 and 97.98.99.0 differ as `ABC` and `abc` do."""
    server = responder(limited())
    for subnet in ("65.66.67.0", "97.98.99.0"):
        query = dns.message.make_query("v3fa.cdn.test", "A", use_edns=0, options=[dns.edns.ECSOption(subnet, 24)])
        reply = server.reply(query.to_wire(), HERE, over_tcp=False)
        assert reply is not None
        (option,) = dns.message.from_wire(reply).options
        assert isinstance(option, dns.edns.ECSOption)
        assert option.address == subnet


def test_clients_of_two_regions_do_not_share_a_memory() -> None:
    server = responder(limited())
    wire = dns.message.make_query("v3fa.cdn.test", "A").to_wire()
    best = [
        str(dns.message.from_wire(server.reply(wire, client, over_tcp=False) or b"").answer[0][0]) for client in (HERE, THERE)
    ]
    assert best == ["127.0.1.1", "127.0.3.1"]


def outcomes(server: Responder, wire: bytes, times: int, *, over_tcp: bool = False) -> str:
    """One letter an answer: A with records, T truncated, E other, - nothing."""
    said = ""
    for _ in range(times):
        reply = server.reply(wire, HERE, over_tcp=over_tcp)
        message = dns.message.from_wire(reply) if reply is not None else None
        said += "-" if message is None else "T" if message.flags & dns.flags.TC else "A" if message.answer else "E"
    return said


def test_beyond_the_limit_every_second_answer_slips_to_tcp_and_a_new_second_begins_anew() -> None:
    clock = Clock()
    server = responder(limited(answers=3), clock)
    wire = dns.message.make_query("v3fa.cdn.test", "A").to_wire()
    assert outcomes(server, wire, 8) == "AAAT-T-T"
    assert outcomes(server, dns.message.make_query("V3FA.cdn.test", "A").to_wire(), 2) == "-T", "case makes no other name"
    assert outcomes(server, dns.message.make_query("v3fb.cdn.test", "A").to_wire(), 1) == "A", "another name has its own limit"
    assert outcomes(server, wire, 3, over_tcp=True) == "AAA", "TCP proves the address"
    clock.now += 1
    assert outcomes(server, wire, 4) == "AAAT"


def test_errors_of_all_kinds_share_one_limit() -> None:
    server = responder(limited(errors=2, slip=0))
    wires = [dns.message.make_query(name, "A").to_wire() for name in ("x.cdn.test", "example.org", "y.cdn.test")]
    assert [outcomes(server, wire, 1) for wire in wires] == ["E", "E", "-"]


def test_a_good_cookie_is_not_limited_and_a_bad_one_gets_a_new_one() -> None:
    server = responder(limited(answers=1, slip=1))

    def asked(cookie: bytes) -> dns.message.Message:
        option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
        wire = dns.message.make_query("v3fa.cdn.test", "A", use_edns=0, options=[option]).to_wire()
        return dns.message.from_wire(server.reply(wire, HERE, over_tcp=False) or b"")

    assert asked(b"clientck").answer
    assert asked(b"clientck").flags & dns.flags.TC
    refused = asked(b"clientck" + bytes(16))
    assert refused.rcode() == dns.rcode.BADCOOKIE
    (given_cookie,) = refused.options
    for _ in range(5):
        assert asked(given_cookie.to_wire()).answer


def test_ipv4_clients_of_an_ipv6_socket_are_networks_of_their_own() -> None:
    """`listen: "[::]:53"` sees them as ::ffff:192.0.2.7, of which one /56 holds all of IPv4."""
    server = responder(limited(answers=1, slip=0))
    wire = dns.message.make_query("v3fa.cdn.test", "A").to_wire()
    for client in ("::ffff:192.0.2.7", "::ffff:203.0.113.7", "::ffff:198.51.100.7"):
        assert server.reply(wire, ip_address(client), over_tcp=False) is not None, client
    assert server.reply(wire, ip_address("192.0.2.7"), over_tcp=False) is None, "the same client, by another socket"


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", ERRORS]), st.integers(0, 2)), max_size=60),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_a_network_never_gets_more_than_its_limit_a_second(asked: list[tuple[bytes, int]], limit: int, slip: int) -> None:
    limiter = RateLimiter(Limits(limit, limit, slip))
    counts = limiter.counts_of(HERE)
    sent: dict[tuple[bytes, int], int] = {}
    for name, second in sorted(asked, key=lambda one: one[1]):
        limiter.at(second)
        if limiter.judged(counts, name) is Verdict.SEND:
            sent[name, second] = sent.get((name, second), 0) + 1
    wanted: dict[tuple[bytes, int], int] = {}
    for one in asked:
        wanted[one] = wanted.get(one, 0) + 1
    assert sent == {one: min(limit, count) for one, count in wanted.items()}


def test_a_network_begins_anew_with_each_second_however_many_others_were_seen() -> None:
    limiter = RateLimiter(Limits(1, 1, 0))
    counts, others = limiter.counts_of(HERE), [limiter.counts_of(IPv4Address(number << 8)) for number in range(70_000)]
    for second in range(1, 5):
        limiter.at(second)
        assert limiter.judged(counts, b"a") is Verdict.SEND, f"second {second}, {len(others)} other networks"


@pytest.mark.parametrize(("one", "other", "together"), [
    ("192.0.2.1", "192.0.2.255", True), ("192.0.2.1", "192.0.3.1", False),
    ("2001:db8::1", "2001:db8:0:ff::1", True), ("2001:db8::1", "2001:db8:0:100::1", False), ("::1", "0.0.0.1", False),
])  # fmt: skip
def test_a_client_network_is_a_24_or_a_56(one: str, other: str, together: bool) -> None:
    limiter = RateLimiter(Limits(1, 1, 1))
    assert (limiter.counts_of(ip_address(one)) is limiter.counts_of(ip_address(other))) == together
