"""What the DNS server answers, question by question: pure, from bytes to bytes."""

from __future__ import annotations

from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dnssteer.answer import Asker, KnownBy, Reply, answer
from dnssteer.reply import Outcome
from dnssteer.zone import Zone, zone_of
from headwater.rules.addresses import Address
from headwater.rules.steering import World
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Health, Snapshot
from headwater.settings.world import world_of
from tests.support.deployments import LAB, load_deployment
from tests.support.worlds import Edge

SNAPSHOT = Snapshot(version=2**32 + 7, deployment=load_deployment(LAB))
ZONE = zone_of(SNAPSHOT)
WORLD = world_of(SNAPSHOT)
HERE = "127.0.0.1"  # a resolver in no listed network but eu's default


def asked(
    query: dns.message.Message, source: str = HERE, *, zone: Zone = ZONE, world: World = WORLD, over_tcp: bool = False
) -> Reply:
    return answer(query.to_wire(), Asker(ip_address(source), over_tcp), zone, world)


def reply_to(query: dns.message.Message, source: str = HERE, *, world: World = WORLD) -> dns.message.Message:
    reply = asked(query, source, world=world)
    assert reply.wire is not None
    message = dns.message.from_wire(reply.wire)
    assert query.is_response(message)
    return message


def addresses(message: dns.message.Message) -> list[str]:
    return [
        record.address for rrset in message.answer for record in rrset if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA)
    ]


TABLE = [
    # name, type, outcome, answer, authority, why
    ("v3fa.cdn.test", "A", Outcome.NOERROR, ["127.0.1.1", "127.0.2.1"], 0, "a logical host: two edges, best first"),
    ("v3fa.cdn.test", "AAAA", Outcome.NODATA, [], 1, "no edge has an IPv6 address (RFC 2308 section 2.2)"),
    ("v3fa.cdn.test", "TXT", Outcome.NODATA, [], 1, "a type that logical hosts do not have"),
    ("v3fa.cdn.test", "HTTPS", Outcome.NODATA, [], 1, "browsers ask it; NODATA, not an error (RFC 9460)"),
    ("ns1.cdn.test", "A", Outcome.NOERROR, ["127.0.0.1"], 0, "the server's own address"),
    ("ns1.cdn.test", "AAAA", Outcome.NODATA, [], 1, "the server has no IPv6 address"),
    ("cdn.test", "A", Outcome.NODATA, [], 1, "the apex exists and has no address"),
    ("v3fg.cdn.test", "A", Outcome.NXDOMAIN, [], 1, "not three hex digits"),
    ("v3fa1.cdn.test", "A", Outcome.NXDOMAIN, [], 1, "four digits"),
    ("x.v3fa.cdn.test", "A", Outcome.NXDOMAIN, [], 1, "nothing is below a logical host"),
    ("www.cdn.test", "ANY", Outcome.NXDOMAIN, [], 1, "ANY does not make a name"),
    ("v3fa.cdn.example", "A", Outcome.REFUSED, [], 0, "another zone"),
    ("test", "SOA", Outcome.REFUSED, [], 0, "the parent zone"),
    (".", "NS", Outcome.REFUSED, [], 0, "the root"),
    ("xcdn.test", "A", Outcome.REFUSED, [], 0, "a suffix of letters is no suffix of labels"),
    ("cdn.test", "AXFR", Outcome.REFUSED, [], 0, "no transfers"),
]


@pytest.mark.parametrize(("name", "qtype", "outcome", "answered", "soas", "why"), TABLE)
def test_the_table_of_names_and_types(name: str, qtype: str, outcome: Outcome, answered: list[str], soas: int, why: str) -> None:
    query = dns.message.make_query(name, qtype)
    assert asked(query).outcome is outcome, why
    message = reply_to(query)
    assert addresses(message) == answered, why
    assert [rrset.rdtype for rrset in message.authority] == [dns.rdatatype.SOA] * soas, why
    assert bool(message.flags & dns.flags.AA) == (outcome is not Outcome.REFUSED), why
    assert not message.flags & (dns.flags.RA | dns.flags.TC), why


def test_the_apex_has_soa_and_ns_with_glue() -> None:
    soa = reply_to(dns.message.make_query("cdn.test", "SOA")).answer[0]
    assert soa.to_text() == "cdn.test. 20 IN SOA ns1.cdn.test. hostmaster.cdn.test. 7 3600 600 604800 20"
    servers = reply_to(dns.message.make_query("cdn.test", "NS"))
    assert servers.answer[0].to_text() == "cdn.test. 3600 IN NS ns1.cdn.test."
    assert servers.additional[0].to_text() == "ns1.cdn.test. 3600 IN A 127.0.0.1"


def test_any_is_answered_minimally() -> None:
    """RFC 8482 section 4.2."""
    (rrset,) = reply_to(dns.message.make_query("v3fa.cdn.test", "ANY")).answer
    assert (rrset.rdtype, rrset[0].to_text()) == (dns.rdatatype.HINFO, '"RFC8482" ""')


def test_the_case_of_the_question_is_kept_and_does_not_matter() -> None:
    """Resolvers draw it at random and check it (draft-vixie-dnsext-dns0x20)."""
    message = reply_to(dns.message.make_query("V3Fa.cDn.TeSt", "A"))
    assert message.question[0].name.to_text() == message.answer[0].name.to_text() == "V3Fa.cDn.TeSt."
    assert addresses(message) == ["127.0.1.1", "127.0.2.1"]


def test_a_nameserver_on_all_addresses_names_none(deployment: Deployment) -> None:
    listen = Address("0.0.0.0", 53)
    anywhere = deployment.model_copy(update={"dns": deployment.dns.model_copy(update={"listen": listen})})
    zone = zone_of(Snapshot(version=1, deployment=anywhere))
    assert asked(dns.message.make_query("ns1.cdn.test", "A"), zone=zone).outcome is Outcome.NODATA


def test_ipv6_edges_answer_aaaa() -> None:
    edges = (Edge("a", "fra", Address("2001:db8::1", 80)), Edge("b", "fra", Address("192.0.2.1", 80)))
    world = World(WORLD.regions, WORLD.pops, edges, "eu")
    assert addresses(reply_to(dns.message.make_query("v000.cdn.test", "AAAA"), world=world)) == ["2001:db8::1"]
    assert addresses(reply_to(dns.message.make_query("v000.cdn.test", "A"), world=world)) == ["192.0.2.1"]


def test_edges_that_share_an_address_are_answered_once() -> None:
    edges = tuple(Edge(name, "fra", Address("192.0.2.1", port)) for name, port in (("a", 80), ("b", 81)))
    world = World(WORLD.regions, WORLD.pops, edges, "eu")
    assert addresses(reply_to(dns.message.make_query("v000.cdn.test", "A"), world=world)) == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("health", "answered"), [({"fra-1": "down"}, ["127.0.2.1", "127.0.3.1"]), ({}, ["127.0.1.1", "127.0.2.1"])]
)
def test_an_edge_that_is_down_is_not_answered(health: dict[str, Health], answered: list[str]) -> None:
    world = world_of(Snapshot(version=1, deployment=SNAPSHOT.deployment, health=health))
    assert addresses(reply_to(dns.message.make_query("v3fa.cdn.test", "A"), world=world)) == answered


def with_subnet(subnet: str, length: int, name: str = "v3fa.cdn.test") -> dns.message.Message:
    return dns.message.make_query(name, "A", use_edns=0, options=[dns.edns.ECSOption(subnet, length)])


def subnet_of(message: dns.message.Message) -> dns.edns.ECSOption:
    (option,) = message.options
    assert isinstance(option, dns.edns.ECSOption)
    return option


SUBNETS = [
    # client subnet, source length, best edge, scope, why
    ("198.51.100.0", 24, "127.0.2.1", 24, "the client is in us, whatever the resolver is"),
    ("198.51.100.128", 25, "127.0.2.1", 24, "more was said than needed"),
    ("198.51.0.0", 16, "127.0.1.1", 18, "too little was said: a scope beyond the source asks for more (section 7.2.1)"),
    ("8.0.0.0", 8, "127.0.1.1", 2, "in no network: the default region"),
    ("0.0.0.0", 0, "127.0.3.1", 0, "a length of 0 leaves the client out: the resolver decides (section 7.1.2)"),
    ("2001:db8::", 56, "127.0.1.1", 0, "IPv6, of which no region lists any"),
    ("::ffff:198.51.100.0", 120, "127.0.2.1", 120, "IPv4-mapped"),
]


@pytest.mark.parametrize(("subnet", "length", "best", "scope", "why"), SUBNETS)
def test_the_client_subnet_steers_and_the_scope_says_how_far(subnet: str, length: int, best: str, scope: int, why: str) -> None:
    message = reply_to(with_subnet(subnet, length), source="127.0.3.9")
    option = subnet_of(message)
    assert addresses(message)[0] == best, why
    assert (option.srclen, option.scopelen, option.address) == (length, scope, subnet), why


def test_what_told_the_region_is_said() -> None:
    by_subnet, by_resolver = (
        asked(with_subnet("198.51.100.0", 24)).steered,
        asked(dns.message.make_query("v000.cdn.test", "A")).steered,
    )
    assert by_subnet is not None
    assert (by_subnet.region, by_subnet.known_by) == ("us", KnownBy.SUBNET)
    assert by_resolver is not None
    assert (by_resolver.region, by_resolver.known_by) == ("eu", KnownBy.RESOLVER)


def test_answers_that_are_the_same_for_all_have_scope_0() -> None:
    assert subnet_of(reply_to(with_subnet("198.51.100.0", 24, "nothing.cdn.test"))).scopelen == 0


def test_nobody_who_did_not_send_a_subnet_gets_one() -> None:
    assert reply_to(dns.message.make_query("v000.cdn.test", "A", use_edns=0)).options == ()
    assert reply_to(dns.message.make_query("v000.cdn.test", "A")).edns == -1


MALFORMED_SUBNETS = [
    (b"", "empty"),
    (b"\x00\x01\x18", "cut off"),
    (b"\x00\x01\x18\x00\x0a\x00", "address shorter than its length"),
    (b"\x00\x01\x18\x00\x0a\x00\x00\x00", "address longer than its length"),
    (b"\x00\x01\x21\x00\x0a\x00\x00\x00\x00", "33 bits of IPv4"),
    (b"\x00\x02\x81\x00" + bytes(17), "129 bits of IPv6"),
    (b"\x00\x01\x17\x00\x0a\x00\x01", "a bit behind the length"),
    (b"\x00\x01\x18\x08\x0a\x00\x00", "a scope in a query"),
    (b"\x00\x03\x00\x00", "an unknown family"),
    (b"\x00\x00\x08\x00\x0a", "family 0 with an address"),
]


@pytest.mark.parametrize(("value", "why"), MALFORMED_SUBNETS)
def test_a_malformed_client_subnet_is_a_format_error(value: bytes, why: str) -> None:
    option = dns.edns.GenericOption(dns.edns.OptionType.ECS, value)
    message = reply_to(dns.message.make_query("v3fa.cdn.test", "A", use_edns=0, options=[option]))
    assert message.rcode() == dns.rcode.FORMERR, why
    assert message.edns == 0, "who sends EDNS gets EDNS (RFC 6891 section 6.1.1)"


def test_family_0_says_nothing_and_comes_back() -> None:
    option = dns.edns.GenericOption(dns.edns.OptionType.ECS, bytes(4))
    reply = asked(dns.message.make_query("v3fa.cdn.test", "A", use_edns=0, options=[option]))
    assert reply.outcome is Outcome.NOERROR
    assert reply.wire is not None
    assert reply.wire.endswith(b"\x00\x08\x00\x04" + bytes(4))


def test_a_later_edns_version_is_refused_by_badvers() -> None:
    """RFC 6891 section 6.1.3."""
    message = reply_to(dns.message.make_query("v3fa.cdn.test", "A", use_edns=1))
    assert (message.rcode(), message.edns, message.answer) == (dns.rcode.BADVERS, 0, [])


def test_do_is_copied_and_the_payload_size_is_ours() -> None:
    message = reply_to(dns.message.make_query("v3fa.cdn.test", "A", want_dnssec=True, payload=4096))
    assert message.ednsflags & dns.flags.DO
    assert message.payload == 1232


def many_servers() -> Zone:
    """A zone whose NS answer takes more than 512 and less than 1232 bytes."""
    settings = SNAPSHOT.deployment.dns.model_copy(update={"nameservers": [f"nameserver-number-{n}" for n in range(15)]})
    return zone_of(Snapshot(version=1, deployment=SNAPSHOT.deployment.model_copy(update={"dns": settings})))


def test_what_does_not_fit_is_truncated_whole_and_tcp_gets_it() -> None:
    plain = dns.message.make_query("cdn.test", "NS")
    cut = asked(plain, zone=many_servers())
    assert cut.wire is not None
    message = dns.message.from_wire(cut.wire)
    assert cut.truncated
    assert message.flags & dns.flags.TC
    assert len(cut.wire) <= 512
    assert message.answer == []
    for whole in (asked(plain, zone=many_servers(), over_tcp=True), asked(large(1232), zone=many_servers())):
        assert whole.wire is not None
        assert len(dns.message.from_wire(whole.wire).answer[0]) == 15
    assert asked(large(100), zone=many_servers()).truncated, "sizes under 512 count as 512 (RFC 6891 section 6.2.5)"


def large(payload: int) -> dns.message.Message:
    return dns.message.make_query("cdn.test", "NS", use_edns=0, payload=payload)


@pytest.mark.parametrize("opcode", [dns.opcode.IQUERY, dns.opcode.STATUS, dns.opcode.NOTIFY, dns.opcode.UPDATE])
def test_other_opcodes_are_not_implemented(opcode: dns.opcode.Opcode) -> None:
    query = dns.message.make_query("cdn.test", "SOA")
    query.set_opcode(opcode)
    reply = asked(query)
    assert reply.outcome is Outcome.NOTIMP
    assert reply.wire is not None
    assert (dns.opcode.from_flags(int.from_bytes(reply.wire[2:4], "big")), reply.wire[3] & 15) == (opcode, dns.rcode.NOTIMP)


QUERY = dns.message.make_query("v3fa.cdn.test", "A", id=0x1234).to_wire()
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"

BROKEN = [
    (QUERY[:4] + bytes(8), "no question (RFC 9619)"),
    (QUERY[:5] + b"\x02" + QUERY[6:] + QUERY[12:], "two questions"),
    (QUERY[:20], "cut off in the name"),
    (QUERY[:-1], "cut off in the class"),
    (QUERY + b"\x00", "a byte too many"),
    (QUERY[:12] + b"\xc0\x0c" + QUERY[-4:], "a name that points at itself"),
    (QUERY[:12] + b"\x80\x00" + QUERY[-4:], "a label of an unknown kind"),
    (QUERY[:11] + b"\x02" + QUERY[12:] + OPT * 2, "two OPT records"),
    (QUERY[:11] + b"\x01" + QUERY[12:] + b"\x01a" + OPT, "an OPT record that is not at the root"),
    (QUERY[:11] + b"\x01" + QUERY[12:] + OPT[:-2] + b"\x00\x03\x00\x08\x00", "an option cut off"),
    (QUERY[:11] + b"\x01" + QUERY[12:], "a record promised and not sent"),
]


@pytest.mark.parametrize(("wire", "why"), BROKEN)
def test_broken_queries_are_format_errors_with_their_id(wire: bytes, why: str) -> None:
    reply = answer(wire, Asker(ip_address(HERE)), ZONE, WORLD)
    assert reply.outcome is Outcome.FORMERR, why
    assert reply.wire is not None
    message = dns.message.from_wire(reply.wire)
    assert (message.id, message.rcode()) == (0x1234, dns.rcode.FORMERR), why


def test_responses_and_what_is_too_short_are_not_answered() -> None:
    response = reply_to(dns.message.make_query("v3fa.cdn.test", "A"))
    assert asked(response) == Reply(Outcome.RESPONSE, None)
    assert answer(QUERY[:11], Asker(ip_address(HERE)), ZONE, WORLD) == Reply(Outcome.TOO_SHORT, None)


def test_other_classes_are_refused() -> None:
    assert asked(dns.message.make_query("version.bind", "TXT", "CH")).outcome is Outcome.REFUSED
    assert asked(dns.message.make_query("v3fa.cdn.test", "A", "CH")).outcome is Outcome.REFUSED


SEEDS = [
    QUERY,
    with_subnet("198.51.100.0", 24).to_wire(),
    dns.message.make_query("cdn.test", "NS", want_dnssec=True).to_wire(),
    dns.message.make_query("cdn.test", "IXFR", use_edns=0, options=[dns.edns.GenericOption(10, b"cookie!!")]).to_wire(),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A query with a few bytes changed, cut out or put in."""
    wire = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(wire) - 1, 0)))
        until = at + draw(st.integers(0, 3))
        wire[at:until] = draw(st.binary(max_size=4))
    return bytes(wire)


@given(st.one_of(mutated(), st.binary(max_size=600)), st.booleans())
@example(b"\0\0(\0\0\1\0\0\0\0\0\0\4v3fa\3cdn\4test\0\0\1\0\1", False)  # an UPDATE of no zone
@settings(max_examples=400, deadline=None)
def test_whatever_arrives_the_reply_is_a_readable_response_with_its_id_or_nothing(wire: bytes, over_tcp: bool) -> None:
    reply = answer(wire, Asker(ip_address(HERE), over_tcp), ZONE, WORLD)
    if reply.wire is None:
        assert len(wire) < 12 or wire[2] & 0x80
        return
    assert reply.wire[:2] == wire[:2]
    assert reply.wire[2] & 0x80
    assert len(reply.wire) <= 1232
    dns.message.from_wire(reply.wire)
