"""Writes a reply to the wire: header, question in its own case, sections, EDNS; truncated when it does not fit. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from dnssteer.query import ClientSubnet, Edns, Header, MalformedQuery, Query, Question, read_header, read_query

UDP_PAYLOAD_BYTES: Final = 1232  # fits any path unfragmented (DNS flag day 2020)
PLAIN_PAYLOAD_BYTES: Final = 512  # RFC 1035 section 4.2.1; smaller EDNS sizes count as this (RFC 6891 section 6.2.5)
TCP_PAYLOAD_BYTES: Final = 65_535
OPCODE_BITS: Final = 0x7800


class Outcome(StrEnum):
    """How a message ended; also the metric's label. The first two get no reply."""

    TOO_SHORT = "too_short"
    RESPONSE = "response"
    NOERROR = "noerror"
    NODATA = "nodata"
    FORMERR = "formerr"
    SERVFAIL = "servfail"
    NXDOMAIN = "nxdomain"
    NOTIMP = "notimp"
    REFUSED = "refused"
    BADVERS = "badvers"
    BADCOOKIE = "badcookie"
    TRUNCATED = "truncated"
    """Sent empty on purpose, so that the client comes again by TCP."""
    DROPPED = "dropped"
    """Over the rate limit."""


RCODES: Final = {
    Outcome.NOERROR: dns.rcode.NOERROR,
    Outcome.NODATA: dns.rcode.NOERROR,
    Outcome.FORMERR: dns.rcode.FORMERR,
    Outcome.SERVFAIL: dns.rcode.SERVFAIL,
    Outcome.NXDOMAIN: dns.rcode.NXDOMAIN,
    Outcome.NOTIMP: dns.rcode.NOTIMP,
    Outcome.REFUSED: dns.rcode.REFUSED,
    Outcome.BADVERS: dns.rcode.BADVERS,
    Outcome.BADCOOKIE: dns.rcode.BADCOOKIE,
    Outcome.TRUNCATED: dns.rcode.NOERROR,
}
AUTHORITATIVE: Final = frozenset({Outcome.NOERROR, Outcome.NODATA, Outcome.NXDOMAIN})


@dataclass(frozen=True, slots=True)
class Sections:
    """A reply before it is written. `scope_len`: how many bits of the client's address the answer depends on. `cookie`: client
    and server cookie for the client to keep."""

    outcome: Outcome
    answer: tuple[dns.rrset.RRset, ...] = ()
    authority: tuple[dns.rrset.RRset, ...] = ()
    additional: tuple[dns.rrset.RRset, ...] = ()
    scope_len: int = 0
    cookie: bytes | None = None


def bare_reply(header: Header, outcome: Outcome, question: Question | None = None, *, with_edns: bool = False) -> bytes:
    """A reply without records."""
    message = _started(header, outcome, question)
    if with_edns:
        message.use_edns(0, 0, UDP_PAYLOAD_BYTES)
    return message.to_wire()


def truncated_reply(wire: bytes) -> bytes | None:
    """The empty, truncated reply to a well-formed query: what a client without a cookie gets instead of an answer. Never longer
    than the query. None for what is not well formed."""
    header = read_header(wire)
    try:
        query = read_query(wire, header) if header is not None else None
    except MalformedQuery:
        query = None
    if header is None or query is None:
        return None
    message = _started(header, Outcome.TRUNCATED, query.question)
    message.flags |= dns.flags.TC
    if query.edns is not None:
        message.use_edns(0, dns.flags.DO if query.edns.dnssec_ok else 0, UDP_PAYLOAD_BYTES)
    return message.to_wire()


def written(query: Query, sections: Sections, *, over_tcp: bool) -> tuple[bytes, bool]:
    """(the reply's bytes, whether it was truncated). A truncated reply has no records, so that nobody uses a part of them."""
    message = _started(query.header, sections.outcome, query.question)
    message.answer, message.authority = list(sections.answer), list(sections.authority)
    message.additional = list(sections.additional)
    _add_edns(message, query.edns, sections)
    try:
        # Unshuffled, because the best edge comes first.
        return message.to_wire(max_size=limit_bytes(query.edns, over_tcp), want_shuffle=False), False
    except dns.exception.TooBig:
        if sections.additional:  # glue is help, and no reason to come again
            return written(query, replace(sections, additional=()), over_tcp=over_tcp)
        message.answer, message.authority = [], []
        message.flags |= dns.flags.TC
        return message.to_wire(), True


def _started(header: Header, outcome: Outcome, question: Question | None) -> dns.message.QueryMessage:
    """Opcode and RD come back as they were sent (RFC 1035 section 4.1.1); there is no recursion here."""
    message = dns.message.QueryMessage(header.id)
    message.flags = dns.flags.Flag(dns.flags.QR | (header.flags & (OPCODE_BITS | dns.flags.RD)))
    if outcome in AUTHORITATIVE:
        message.flags |= dns.flags.AA
    message.set_rcode(RCODES[outcome])
    if question is not None:
        qtype, qclass = dns.rdatatype.RdataType.make(question.qtype), dns.rdataclass.RdataClass.make(question.qclass)
        message.question = [dns.rrset.RRset(question.name, qclass, qtype)]
    return message


def _add_edns(message: dns.message.Message, edns: Edns | None, sections: Sections) -> None:
    if edns is None:
        return
    options: list[dns.edns.Option] = []
    if edns.subnet is not None and sections.outcome in AUTHORITATIVE:
        options.append(dns.edns.GenericOption(dns.edns.OptionType.ECS, _scoped(edns.subnet, sections.scope_len)))
    # DO is copied (RFC 3225 section 3), signed or not.
    if sections.cookie is not None:
        options.append(dns.edns.GenericOption(dns.edns.OptionType.COOKIE, sections.cookie))
    message.use_edns(0, dns.flags.DO if edns.dnssec_ok else 0, UDP_PAYLOAD_BYTES, options=options)
    message.set_rcode(RCODES[sections.outcome])  # again, because its high bits are in the OPT record


def _scoped(subnet: ClientSubnet, scope_len: int) -> bytes:
    """Family, length and address as they were sent, and the scope (RFC 7871 section 7.2.1)."""
    address = subnet.address.packed[: (subnet.source_len + 7) // 8] if subnet.address else b""
    return subnet.family.to_bytes(2, "big") + bytes((subnet.source_len, scope_len)) + address


def options_of(subnet: ClientSubnet | None, scope_len: int, cookie: bytes | None) -> bytes:
    """The options of an authoritative answer's OPT record, in the order in which `written` has them."""
    found = [(dns.edns.OptionType.ECS, _scoped(subnet, scope_len))] if subnet is not None else []
    if cookie is not None:
        found.append((dns.edns.OptionType.COOKIE, cookie))
    return b"".join(kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for kind, value in found)


def limit_bytes(edns: Edns | None, over_tcp: bool) -> int:
    """How long a reply may be."""
    if over_tcp:
        return TCP_PAYLOAD_BYTES
    return min(max(edns.payload_bytes, PLAIN_PAYLOAD_BYTES), UDP_PAYLOAD_BYTES) if edns else PLAIN_PAYLOAD_BYTES
