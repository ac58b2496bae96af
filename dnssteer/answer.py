"""What the server answers: one pure function from a query's bytes, its sender and the world to the reply's bytes.

The order of its questions: is it a query at all; is it well formed; is its EDNS ours; is the name ours; which name of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rrset
from dns.rdataclass import IN
from dns.rdatatype import AAAA, ANY, HINFO, NS, SOA, A

from dnssteer.query import OPCODE_QUERY, Header, MalformedQuery, Query, Question, read_header, read_query
from dnssteer.reply import Outcome, Sections, bare_reply, written
from dnssteer.zone import INFRASTRUCTURE_TTL_S, Zone
from headwater.rules.names import Bucket, bucket_of_host
from headwater.rules.steering import World, region_of, steer

IpAddress = IPv4Address | IPv6Address

# Transfers and meta types (RFC 6895 section 3.1) name no data of the zone; ANY is answered.
REFUSED_TYPES: Final = frozenset({0, 41, *range(128, 255)})
# RFC 8482 section 4.2: the record that stands for "you get no list of everything".
MINIMAL_ANY: Final = dns.rdata.from_text(IN, HINFO, 'RFC8482 ""')


class KnownBy(StrEnum):
    """What told the viewer's region: the client subnet, or where the resolver is."""

    SUBNET = "subnet"
    RESOLVER = "resolver"


@dataclass(frozen=True, slots=True)
class Steered:
    """The region that an answer was steered for, and how it was known."""

    region: str
    known_by: KnownBy


@dataclass(frozen=True, slots=True)
class Reply:
    """`wire` is None when nothing is sent back. `qtype` is 0 when no question could be read."""

    outcome: Outcome
    wire: bytes | None
    qtype: int = 0
    steered: Steered | None = None
    truncated: bool = False


def answer(wire: bytes, source: IpAddress, zone: Zone, world: World, *, over_tcp: bool = False) -> Reply:
    """The reply to the message `wire` of a resolver at `source`."""
    header = read_header(wire)
    if header is None:
        return Reply(Outcome.TOO_SHORT, None)
    if header.is_response:
        return Reply(Outcome.RESPONSE, None)  # two servers that answer answers would talk for ever
    try:
        query = read_query(wire, header)
    except MalformedQuery as error:
        return _bare(header, _or_not_implemented(header, Outcome.FORMERR), error.question, error.had_edns)
    if header.opcode != OPCODE_QUERY:
        return _bare(header, Outcome.NOTIMP, query.question, query.edns is not None)
    sections, steered = _answered(query, source, zone, world)
    reply, truncated = written(query, sections, over_tcp=over_tcp)
    return Reply(sections.outcome, reply, query.question.qtype, steered, truncated)


def _bare(header: Header, outcome: Outcome, question: Question | None, with_edns: bool) -> Reply:
    """Without sections of answers. The question of another opcode is not repeated: it may be none (an UPDATE's is its zone)."""
    question = question if header.opcode == OPCODE_QUERY else None
    return Reply(outcome, bare_reply(header, outcome, question, with_edns=with_edns), question.qtype if question else 0)


def _or_not_implemented(header: Header, outcome: Outcome) -> Outcome:
    """Messages of another opcode may have another form, so that nothing can be said against theirs."""
    return outcome if header.opcode == OPCODE_QUERY else Outcome.NOTIMP


def _answered(query: Query, source: IpAddress, zone: Zone, world: World) -> tuple[Sections, Steered | None]:
    question = query.question
    if query.edns is not None and query.edns.version > 0:
        return Sections(Outcome.BADVERS), None
    if not _is_ours(question, zone):
        return Sections(Outcome.REFUSED), None
    if question.name == zone.origin:
        return _apex(question, zone), None
    if question.name in zone.server_names:
        return _addresses(question, zone.server_addresses, INFRASTRUCTURE_TTL_S, zone), None
    bucket = bucket_of_host(_text(question.name), _text(zone.origin))
    if bucket is None:
        return Sections(Outcome.NXDOMAIN, authority=(zone.soa,)), None
    return _steered(query, bucket, source, zone, world)


def _is_ours(question: Question, zone: Zone) -> bool:
    known_class = question.qclass in (IN, dns.rdataclass.ANY)
    return known_class and question.qtype not in REFUSED_TYPES and question.name.is_subdomain(zone.origin)


def _apex(question: Question, zone: Zone) -> Sections:
    if question.qtype == SOA:
        return Sections(Outcome.NOERROR, answer=(_owned_by(question.name, zone.soa),))
    if question.qtype == NS:
        ours = [name for name in zone.server_names if name.is_subdomain(zone.origin)]
        glue = [_address_records(name, zone.server_addresses, kind, INFRASTRUCTURE_TTL_S) for name in ours for kind in (A, AAAA)]
        servers = _owned_by(question.name, zone.nameservers)
        return Sections(Outcome.NOERROR, answer=(servers,), additional=tuple(rrset for rrset in glue if rrset))
    return _addresses(question, (), zone.ttl_s, zone)


def _steered(query: Query, bucket: Bucket, source: IpAddress, zone: Zone, world: World) -> tuple[Sections, Steered]:
    subnet = query.edns.subnet if query.edns else None
    if subnet is not None and subnet.address is not None and subnet.source_len > 0:
        match = region_of(subnet.address, world, subnet.source_len)
        scope_len, steered = match.prefix_len, Steered(match.region, KnownBy.SUBNET)
    else:
        # A length of 0 asks to leave the client out of it (RFC 7871 section 7.1.2); then only the resolver's place is known.
        scope_len, steered = 0, Steered(region_of(source, world).region, KnownBy.RESOLVER)
    edges = [ip_address(edge.address.host) for edge in steer(bucket, steered.region, world)]
    return _addresses(query.question, edges, zone.ttl_s, zone, scope_len), steered


def _addresses(question: Question, known: Iterable[IpAddress], ttl_s: int, zone: Zone, scope_len: int = 0) -> Sections:
    """What a name that has addresses and nothing else answers."""
    if question.qtype == ANY:
        minimal = dns.rrset.from_rdata(question.name, ttl_s, MINIMAL_ANY)
        return Sections(Outcome.NOERROR, answer=(minimal,))
    records = _address_records(question.name, known, question.qtype, ttl_s, limit=zone.answers)
    if records:
        return Sections(Outcome.NOERROR, answer=(records,), scope_len=scope_len)
    return Sections(Outcome.NODATA, authority=(zone.soa,), scope_len=scope_len)


def _address_records(
    name: dns.name.Name, known: Iterable[IpAddress], qtype: int, ttl_s: int, limit: int | None = None
) -> dns.rrset.RRset | None:
    """The A or AAAA records of `name`, in the order of `known`; None when there are none of the kind."""
    version = {int(A): 4, int(AAAA): 6}.get(qtype)
    fitting = list(dict.fromkeys(str(address) for address in known if address.version == version))[:limit]
    if not fitting:
        return None
    return dns.rrset.from_text_list(name, ttl_s, IN, A if version == 4 else AAAA, fitting)


def _owned_by(name: dns.name.Name, rrset: dns.rrset.RRset) -> dns.rrset.RRset:
    """The same records under the name as the question spelled it."""
    return dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset))


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
