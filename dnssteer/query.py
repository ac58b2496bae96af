"""Reads one DNS query from the wire: header, question, EDNS, client subnet, cookie. Pure; every byte is hostile until parsed.

Sources: RFC 1035 section 4.1, RFC 6891 (EDNS), RFC 7871 section 6 (client subnet), RFC 7873 (cookies), RFC 9619 (one question).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import dns.exception
import dns.flags
import dns.name
import dns.rdatatype
import dns.wire

HEADER_BYTES: Final = 12
OPCODE_QUERY: Final = 0
CLIENT_SUBNET: Final = 8  # EDNS option code, RFC 7871 section 6
COOKIE: Final = 10  # EDNS option code, RFC 7873 section 4
COOKIE_BYTES: Final = frozenset({8, *range(16, 41)})
ADDRESS_BYTES: Final = {1: 4, 2: 16}  # by address family (IANA): 1 IPv4, 2 IPv6


@dataclass(frozen=True, slots=True)
class Header:
    """The header's fields that matter; `counts` are those of the four sections."""

    id: int
    flags: int
    counts: tuple[int, int, int, int]

    @property
    def is_response(self) -> bool:
        return bool(self.flags & dns.flags.QR)

    @property
    def opcode(self) -> int:
        return (self.flags >> 11) & 15


@dataclass(frozen=True, slots=True)
class ClientSubnet:
    """The client network that a resolver asks for. Family 0 has no address: the resolver says nothing about its client."""

    family: int
    source_len: int
    address: IPv4Address | IPv6Address | None


@dataclass(frozen=True, slots=True)
class Edns:
    """What the query's OPT record says. `cookie`: the client's 8 bytes, and a server's behind them when it has one."""

    payload_bytes: int
    version: int
    dnssec_ok: bool
    subnet: ClientSubnet | None
    cookie: bytes | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; the name in the case that it was written in."""

    name: dns.name.Name
    qtype: int
    qclass: int


@dataclass(frozen=True, slots=True)
class Query:
    """A well-formed query."""

    header: Header
    question: Question
    edns: Edns | None


class MalformedQuery(Exception):
    """Not a query to answer. `question` is what could be read of it; `had_edns` says that an OPT record was seen."""

    def __init__(self, reason: str, question: Question | None = None, *, had_edns: bool = False) -> None:
        super().__init__(reason)
        self.question = question
        self.had_edns = had_edns


def read_header(wire: bytes) -> Header | None:
    """The header, or None when `wire` is too short to have one."""
    if len(wire) < HEADER_BYTES:
        return None
    ident, flags, *counts = struct.unpack_from("!6H", wire)
    return Header(ident, flags, (counts[0], counts[1], counts[2], counts[3]))


def read_query(wire: bytes, header: Header) -> Query:
    """The query behind `header`. Raises MalformedQuery, and nothing else."""
    question, edns, had_edns = None, None, False
    if header.counts[0] != 1:
        raise MalformedQuery("one question was expected (RFC 9619)")
    try:
        parser = dns.wire.Parser(wire, HEADER_BYTES)
        name = parser.get_name()
        # A pointer could only lead into the header; and a reply that repeats the name would be longer than its query.
        if parser.current - HEADER_BYTES != sum(len(label) + 1 for label in name.labels):
            raise MalformedQuery("compressed name in the question")
        question = Question(name, *parser.get_struct("!HH"))
        for _ in range(sum(header.counts[1:])):
            owner = parser.get_name()
            rdtype, rdclass, ttl, size = parser.get_struct("!HHIH")
            rdata = parser.get_bytes(size)
            if rdtype != dns.rdatatype.OPT:
                continue
            if had_edns or owner != dns.name.root:
                raise MalformedQuery("one OPT record at the root was expected (RFC 6891 section 6.1.1)")
            had_edns = True
            edns = read_edns(rdclass, ttl, rdata)
        if parser.remaining():
            raise MalformedQuery("bytes after the last record")
    except (dns.exception.DNSException, MalformedQuery) as error:
        raise MalformedQuery(str(error), question, had_edns=had_edns) from error
    return Query(header, question, edns)


def read_edns(rdclass: int, ttl: int, rdata: bytes) -> Edns:
    """RFC 6891 section 6.1.3: the class is the payload size; the TTL is extended rcode, version, flags. Raises MalformedQuery."""
    version = (ttl >> 16) & 0xFF
    subnet: ClientSubnet | None = None
    cookie: bytes | None = None
    # Options of a later version may have another form, and are answered by BADVERS unread.
    parser = dns.wire.Parser(rdata if version == 0 else b"")
    while parser.remaining():
        code, size = parser.get_struct("!HH")
        value = parser.get_bytes(size)
        if code == CLIENT_SUBNET and subnet is None:
            subnet = _read_subnet(value)
        elif code == COOKIE and cookie is None:
            if size not in COOKIE_BYTES:
                raise MalformedQuery("cookie: 8, or 16 to 40 bytes were expected (RFC 7873 section 5.2.2)")
            cookie = value
    return Edns(rdclass, version, bool(ttl & dns.flags.DO), subnet, cookie)


def _read_subnet(value: bytes) -> ClientSubnet:
    """RFC 7871 section 6. Section 7.1.2 and 7.2.1: what does not hold to it is answered with FORMERR."""
    parser = dns.wire.Parser(value)
    family, source_len, scope_len = parser.get_struct("!HBB")
    address = parser.get_remaining()
    if scope_len != 0:
        raise MalformedQuery("client subnet: the scope of a query must be 0")
    if family == 0 and source_len == 0 and not address:
        return ClientSubnet(0, 0, None)
    full_bytes = ADDRESS_BYTES.get(family)
    if full_bytes is None:
        raise MalformedQuery("client subnet: unknown address family")
    if source_len > full_bytes * 8 or len(address) != (source_len + 7) // 8:
        raise MalformedQuery("client subnet: the address does not have the stated length")
    number = int.from_bytes(address.ljust(full_bytes, b"\x00"), "big")
    if number & ((1 << (full_bytes * 8 - source_len)) - 1):
        raise MalformedQuery("client subnet: bits behind the stated length must be 0")
    return ClientSubnet(family, source_len, IPv4Address(number) if family == 1 else IPv6Address(number))
