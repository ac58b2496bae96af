"""The PROXY protocol's header, versions 1 and 2 (HAProxy's proxy-protocol.txt), read strictly.

A reader asks `missing` how many bytes it still needs and gives the whole header to `parse`: what follows the header
belongs to the client and is never touched.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"  # section 2.2
V1_START: Final = b"PROXY "
_V1_LONGEST: Final = 107  # section 2.1, with CRLF
_V2_FIXED: Final = 16
_V2_LONGEST: Final = 2048  # addresses of 216 bytes at most, and room for what balancers add as TLVs
_FAMILIES: Final = {0x11: (4, 12), 0x21: (16, 36)}  # TCP over IPv4, IPv6: bytes of an address, of the address block

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadProxyHeader(ValueError):
    """The connection does not begin with a PROXY header, or with one that is malformed."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """`client` is None when the balancer speaks for itself (LOCAL, UNKNOWN: its health checks)."""

    client: IpAddress | None
    port: int = 0


def begins(data: bytes) -> bool:
    """Whether a connection's first bytes are a PROXY header's."""
    return data.startswith((SIGNATURE, V1_START))


def missing(head: bytes) -> int:
    """How many bytes may be read next without reading past the header; 0: it is whole. Raises BadProxyHeader."""
    if len(head) < len(SIGNATURE):
        if not (SIGNATURE.startswith(head) or V1_START.startswith(head) or head.startswith(V1_START)):
            raise BadProxyHeader("the connection does not begin with a PROXY header")
        return len(SIGNATURE) - len(head)
    if head.startswith(SIGNATURE):
        if len(head) < _V2_FIXED:
            return _V2_FIXED - len(head)
        length: int = struct.unpack_from("!H", head, 14)[0]
        if length > _V2_LONGEST:
            raise BadProxyHeader(f"the header announces {length} bytes, {_V2_LONGEST} at most are read")
        return max(0, _V2_FIXED + length - len(head))
    if not head.startswith(V1_START):
        raise BadProxyHeader("the connection does not begin with a PROXY header")
    if head.endswith(b"\r\n"):
        return 0
    if len(head) >= _V1_LONGEST:
        raise BadProxyHeader("the first line is longer than a PROXY header can be")
    return 1


def parse(head: bytes) -> Proxied:
    """The client that a whole header names. Raises BadProxyHeader."""
    if missing(head):
        raise BadProxyHeader("the header is not whole")
    return _parse_v2(head) if head.startswith(SIGNATURE) else _parse_v1(head)


def _parse_v1(head: bytes) -> Proxied:
    try:
        words = head[: -len(b"\r\n")].decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise BadProxyHeader("the header is not ASCII") from error
    if len(words) > 1 and words[1] == "UNKNOWN":
        return Proxied(None)  # section 2.1: the rest of the line is ignored
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise BadProxyHeader("'PROXY TCP4|TCP6 source destination port port' was expected")
    kind = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
    try:
        source, _ = kind(words[2]), kind(words[3])
    except ValueError as error:
        raise BadProxyHeader(f"an address is no {words[1]} address") from error
    port, _ = (_port(word) for word in words[4:])
    return Proxied(source, port)


def _port(word: str) -> int:
    if not word.isdigit() or str(int(word[:6])) != word or int(word) > 65535:
        raise BadProxyHeader("a port is no number from 0 to 65535")
    return int(word)


def _parse_v2(head: bytes) -> Proxied:
    if head[12] >> 4 != 2:
        raise BadProxyHeader(f"version {head[12] >> 4} is unknown")
    command = head[12] & 0xF
    if command == 0:  # LOCAL: whatever addresses follow are ignored
        return Proxied(None)
    if command != 1:
        raise BadProxyHeader(f"command {command} is unknown")
    if head[13] not in _FAMILIES:
        raise BadProxyHeader("only TCP over IPv4 or IPv6 is served")
    size, block = _FAMILIES[head[13]]
    if len(head) < _V2_FIXED + block:
        raise BadProxyHeader("the addresses are cut short")
    source = head[_V2_FIXED : _V2_FIXED + size]
    (port,) = struct.unpack_from("!H", head, _V2_FIXED + 2 * size)
    return Proxied(ipaddress.ip_address(source), port)
