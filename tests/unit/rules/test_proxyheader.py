from __future__ import annotations

import contextlib
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.proxyheader import SIGNATURE, BadProxyHeader, Proxied, missing, parse


def v2(command: int, family: int, block: bytes, version: int = 2) -> bytes:
    return SIGNATURE + bytes((version << 4 | command, family)) + struct.pack("!H", len(block)) + block


IPV4 = ip_address("192.0.2.7").packed + ip_address("192.0.2.1").packed + struct.pack("!HH", 5000, 443)
IPV6 = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + struct.pack("!HH", 5000, 443)
GOOD = [
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n", Proxied(ip_address("192.0.2.7"), 5000)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n", Proxied(ip_address("2001:db8::7"), 5000)),
    (b"PROXY UNKNOWN\r\n", Proxied(None)),
    (b"PROXY UNKNOWN whatever follows\r\n", Proxied(None)),
    (v2(1, 0x11, IPV4), Proxied(ip_address("192.0.2.7"), 5000)),
    (v2(1, 0x11, IPV4 + b"\x04\x00\x01x"), Proxied(ip_address("192.0.2.7"), 5000)),  # TLVs follow
    (v2(1, 0x21, IPV6), Proxied(ip_address("2001:db8::7"), 5000)),
    (v2(0, 0x00, b""), Proxied(None)),
]


@pytest.mark.parametrize(("header", "expected"), GOOD)
def test_a_header_is_read_to_its_last_byte_and_no_further(header: bytes, expected: Proxied) -> None:
    stream, head = header + b"GET / HTTP/1.1\r\n", b""
    while needed := missing(head):
        head += stream[len(head) : len(head) + needed]
    assert head == header
    assert parse(head) == expected


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 5000\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 05000 443\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 443\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 443\r\n",
        b"PROXY TCP4 2001:db8::7 192.0.2.1 5000 443\r\n",
        b"PROXY TCP4  192.0.2.7 192.0.2.1 5000 443\r\n",
        b"PROXY UDP4 192.0.2.7 192.0.2.1 5000 443\r\n",
        b"PROXY TCP4 192.0.2.\xff 192.0.2.1 5000 443\r\n",
        b"PROXY " + b"x" * 120,
        b"proxy TCP4 192.0.2.7 192.0.2.1 5000 443\r\n",
        v2(1, 0x11, IPV4[:-1]),
        v2(1, 0x12, IPV4),  # UDP
        v2(1, 0x31, IPV4),  # UNIX
        v2(2, 0x11, IPV4),
        v2(1, 0x11, IPV4, version=1),
        v2(1, 0x11, IPV4 + bytes(4000)),
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        parse(header)


@given(st.binary(max_size=300) | st.binary(max_size=100).map((SIGNATURE + b"\x21\x11").__add__))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadProxyHeader):
        assert parse(data) is not None
