"""What the server answers: one pure function from a query's bytes, its sender and the world to the reply's bytes.

The order of its questions: is it a query at all; is it well formed; is its EDNS ours; is the name ours; is the cookie good; which
name of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, Protocol

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdataclass import IN
from dns.rdatatype import AAAA, ANY, HINFO, HTTPS, NS, A

from dnssteer import cookies
from dnssteer.cookies import Shown
from dnssteer.query import OPCODE_QUERY, Header, MalformedQuery, Query, Question, read_header, read_query
from dnssteer.reply import Outcome, Sections, bare_reply, truncated_reply, written
from dnssteer.services import https_records
from dnssteer.zone import IpAddress, LogicalName, Zone, address_records
from headwater.rules.steering import SteeredEdge, World, region_of, steer

# Transfers and meta types (RFC 6895 section 3.1) name no data of the zone; ANY is answered.
REFUSED_TYPES: Final = frozenset({0, 41, *range(128, 255)})
# RFC 8482 section 4.2: the record that stands for "you get no list of everything".
MINIMAL_ANY: Final = dns.rdata.from_text(IN, HINFO, 'RFC8482 ""')


class KnownBy(StrEnum):
    """What told the viewer's region: the client subnet, or where the resolver is."""

    SUBNET = "subnet"
    RESOLVER = "resolver"


class Signing(Protocol):
    """Adds what a validating resolver needs to the sections of a query that asked for it."""

    def signed(self, query: Query, sections: Sections, zone: Zone, now: float) -> Sections: ...

    def key_records(self, kind: int, zone: Zone) -> dns.rrset.RRset | None:
        """The zone's set DNSKEY, CDS or CDNSKEY; None for another type."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """What the server insists on. `secrets` make and judge cookies, the first one makes; none: no cookies."""

    secrets: Sequence[bytes] = ()
    require_cookies: bool = False
    signing: Signing | None = None


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, by which transport, when (unix seconds, of this machine's clock). `region` when it is known already."""

    address: IpAddress
    over_tcp: bool = False
    now: float = 0.0
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Steered:
    """The region that an answer was steered for, and how it was known."""

    region: str
    known_by: KnownBy


@dataclass(frozen=True, slots=True)
class Reply:
    """`wire` is None when nothing is sent back. `qtype` is 0 when no question could be read. `shown` is what the client's cookie
    said; `named` the name asked, in lower case, when there is such a name."""

    outcome: Outcome
    wire: bytes | None
    qtype: int = 0
    steered: Steered | None = None
    truncated: bool = False
    shown: Shown = Shown.NONE
    named: bytes = field(default=b"", compare=False)


NO_POLICY: Final = Policy()


def answer(wire: bytes, asker: Asker, zone: Zone, world: World, policy: Policy = NO_POLICY) -> Reply:
    """The reply to the message `wire`."""
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
    cookie = query.edns.cookie if query.edns is not None and policy.secrets else None
    shown = cookies.shown(cookie, asker.address, policy.secrets, asker.now)
    sections, steered = _decided(query, asker, shown, zone, world, policy)
    if sections.outcome is Outcome.TRUNCATED:
        return Reply(Outcome.TRUNCATED, truncated_reply(wire), query.question.qtype, truncated=True, shown=shown)
    if cookie is not None and sections.outcome not in (Outcome.BADVERS, Outcome.REFUSED):
        sections = replace(sections, cookie=cookies.kept_or_new(cookie, shown, asker.address, policy.secrets[0], asker.now))
    reply, truncated = written(query, sections, over_tcp=asker.over_tcp)
    named = query.question.name.canonicalize().to_wire() if sections.outcome is not Outcome.NXDOMAIN else b""
    return Reply(sections.outcome, reply, query.question.qtype, steered, truncated, shown, named or b"")


def _decided(
    query: Query, asker: Asker, shown: Shown, zone: Zone, world: World, policy: Policy
) -> tuple[Sections, Steered | None]:
    if query.edns is not None and query.edns.version > 0:
        return Sections(Outcome.BADVERS), None
    if not _is_ours(query.question, zone):
        return Sections(Outcome.REFUSED), None
    if policy.require_cookies and not asker.over_tcp and shown in (Shown.CLIENT_ONLY, Shown.BAD):
        # BADCOOKIE brings a server cookie. Where the query had none it would be longer than the query; TCP is asked for instead.
        long_enough = query.edns is not None and len(query.edns.cookie or b"") >= cookies.CLIENT_BYTES + cookies.SERVER_BYTES
        return Sections(Outcome.BADCOOKIE if long_enough else Outcome.TRUNCATED), None
    sections, steered = _answered(query, asker, zone, world, policy)
    if policy.signing is not None and query.edns is not None and query.edns.dnssec_ok:
        sections = policy.signing.signed(query, sections, zone, asker.now)
    return sections, steered


def _bare(header: Header, outcome: Outcome, question: Question | None, with_edns: bool) -> Reply:
    """Without sections of answers. The question of another opcode is not repeated: it may be none (an UPDATE's is its zone)."""
    question = question if header.opcode == OPCODE_QUERY else None
    return Reply(outcome, bare_reply(header, outcome, question, with_edns=with_edns), question.qtype if question else 0)


def _or_not_implemented(header: Header, outcome: Outcome) -> Outcome:
    """Messages of another opcode may have another form, so that nothing can be said against theirs."""
    return outcome if header.opcode == OPCODE_QUERY else Outcome.NOTIMP


def _is_ours(question: Question, zone: Zone) -> bool:
    known_class = question.qclass in (IN, dns.rdataclass.ANY)
    return known_class and question.qtype not in REFUSED_TYPES and question.name.is_subdomain(zone.origin)


def _answered(query: Query, asker: Asker, zone: Zone, world: World, policy: Policy) -> tuple[Sections, Steered | None]:
    question = query.question
    logical = zone.logical(question.name)
    if logical is not None:
        if logical.exists_only:
            return _of(question, (), zone), None
        return _steered(query, logical, asker, zone, world)
    records = zone.names.get(question.name)
    if records is None:
        return Sections(Outcome.NXDOMAIN, authority=(zone.soa,)), None
    known = records.get(question.qtype)
    if policy.signing is not None and question.name == zone.origin:
        known = policy.signing.key_records(question.qtype, zone) or known
    sections = _of(question, (known,) if known else (), zone, has_data=any(records.values()))
    if question.qtype == NS and sections.answer:
        sections = replace(sections, additional=tuple(_glue(zone)))
    return sections, None


def _glue(zone: Zone) -> Sequence[dns.rrset.RRset]:
    """Addresses of the zone's servers, as far as their names are in the zone."""
    names = [zone.names.get(server.target, {}) for server in zone.nameservers]
    return [records[kind] for records in names for kind in (A, AAAA) if records.get(kind)]


def _steered(query: Query, logical: LogicalName, asker: Asker, zone: Zone, world: World) -> tuple[Sections, Steered]:
    subnet = query.edns.subnet if query.edns else None
    if subnet is not None and subnet.address is not None and subnet.source_len > 0:
        match = region_of(subnet.address, world, subnet.source_len)
        scope_len, steered = match.prefix_len, Steered(match.region, KnownBy.SUBNET)
    else:
        # A length of 0 asks to leave the client out of it (RFC 7871 section 7.1.2); then only the resolver's place is known.
        scope_len, steered = 0, Steered(asker.region or region_of(asker.address, world).region, KnownBy.RESOLVER)
    question = query.question
    if question.qtype == ANY or question.qtype not in (A, AAAA, HTTPS):
        return _of(question, (), zone, has_data=logical.holds_addresses), steered
    records = _steered_records(question, logical, steer(logical.bucket, steered.region, world), zone)
    return replace(_of(question, records, zone), scope_len=scope_len), steered


def _steered_records(
    question: Question, logical: LogicalName, ranked: Sequence[SteeredEdge], zone: Zone
) -> Sequence[dns.rrset.RRset]:
    if question.qtype == HTTPS:
        return https_records(question.name, logical.owner, ranked, zone)
    if not logical.holds_addresses:
        return ()
    # Of each kind the best `answers`, however the edges' kinds alternate.
    version = 4 if question.qtype == A else 6
    fitting = [address for edge in ranked if (address := ip_address(edge.address.host)).version == version]
    best = list(dict.fromkeys(fitting))[: zone.answers]
    return tuple(address_records(question.name, best, zone.ttl_s))


def _of(question: Question, found: Sequence[dns.rrset.RRset], zone: Zone, *, has_data: bool = True) -> Sections:
    """What a name that exists answers, given its records of the type asked."""
    if question.qtype == ANY and has_data:
        return Sections(Outcome.NOERROR, answer=(dns.rrset.from_rdata(question.name, zone.ttl_s, MINIMAL_ANY),))
    if found:
        return Sections(Outcome.NOERROR, answer=tuple(_owned_by(question.name, rrset) for rrset in found))
    return Sections(Outcome.NODATA, authority=(zone.soa,))


def _owned_by(name: dns.name.Name, rrset: dns.rrset.RRset) -> dns.rrset.RRset:
    """The same records under the name as the question spelled it."""
    return dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset))
