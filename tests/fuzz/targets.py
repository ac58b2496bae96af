"""What is fuzzed: each function takes hostile bytes and asserts what must hold for any of them.

`python -m tests.fuzz` runs them under atheris (`make fuzz`); tests/unit/test_fuzz_targets.py runs each on its seeds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from dnssteer.query import MalformedQuery, read_header, read_query
from headwater.rules import clienthello, proxyheader
from headwater.rules.apitokens import InvalidToken, Scope, TokenRefused, bearer_token, parse_token
from headwater.rules.cachestatus import CacheStatus, Outcome, with_member
from headwater.rules.conditionals import evaluate, if_range_holds, parse_etags
from headwater.rules.fields import directives, end_to_end, field, well_formed
from headwater.rules.freshness import corrected_initial_age, lifetime
from headwater.rules.hostfield import host_name
from headwater.rules.httpdate import format_http_date, parse_http_date
from headwater.rules.names import parse_video_id
from headwater.rules.ranges import Single, parse_content_range, parse_range, parse_specs
from headwater.rules.requesttarget import BadTarget, Target, origin_form, parse_target
from headwater.rules.structured import parse_dictionary
from headwater.rules.varying import vary_names
from origin.uploads.dialects import contentrange as uploadrange
from origin.uploads.dialects import ietffields, tusfields
from origin.uploads.dialects.naming import video_maker
from signer.grant import GrantRefused, decode, looks_like_token

SIZE: Final = 100_000


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """`seeds` are good inputs to begin with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def request_target(data: bytes) -> None:
    """A target that is taken is a normal one, stays itself, and has no way out of its folder."""
    raw = data.decode("latin-1")
    try:
        target = parse_target(origin_form(raw, "www.test"))
    except BadTarget:
        return
    assert parse_target(target.path) == Target(target.path, "")
    assert target.path.startswith("/")
    segments = target.path.split("/")
    assert ".." not in segments
    assert "." not in segments
    assert "//" not in target.path
    assert (target.path + target.query).isascii()
    assert (target.path + target.query).isprintable()
    assert not any(escape in target.path for escape in ("%2F", "%5C", "%00", "%0D", "%0A", "%2E"))


def host_field(data: bytes) -> None:
    """A host is one name or address; what it is does not change when it is read again."""
    name = host_name(data.decode("latin-1"))
    if name is not None:
        assert name
        assert not set(name) & set("/@, \\[]%")
        assert host_name(f"[{name}]" if ":" in name else name) == name


def byte_range(data: bytes) -> None:
    """A selection never exceeds the object, and never asks for more bytes than it has."""
    header = data.decode("latin-1")
    parse_specs(header)
    for size in (0, 1, SIZE):
        selection = parse_range(header, size)
        parts = getattr(selection, "parts", (selection,) if isinstance(selection, Single) else ())
        assert all(0 <= part.first <= part.last < size for part in parts)
        assert sum(part.length for part in parts) <= size
    parsed = parse_content_range(header)
    if parsed is not None:
        span, size_told = parsed
        assert 0 <= span.first <= span.last
        assert size_told is None or span.last < size_told


def conditions(data: bytes) -> None:
    """Whatever a condition says, it is answered."""
    text = data.decode("latin-1")
    parse_etags(text)
    one, _, other = text.partition("\n")
    for etag, modified in (('"v1"', "Sun, 06 Nov 1994 08:49:37 GMT"), (None, other), (other, None)):
        evaluate("GET", etag, modified, if_match=one, now=1_800_000_000.0)
        evaluate("GET", etag, modified, if_none_match=one, if_modified_since=other, if_unmodified_since=one, now=1_800_000_000.0)
        if_range_holds(one, etag, modified, other)


def header_fields(data: bytes) -> None:
    """Lists, directives and what is passed on: names stay tokens, hop-by-hop fields stay here."""
    lines = data.decode("latin-1").split("\n")
    fields = tuple((name, value) for name, _, value in (line.partition(":") for line in lines))
    passed = end_to_end(fields)
    assert field(passed, "connection") is None
    assert field(passed, "transfer-encoding") is None
    found = directives(field(fields, "cache-control") or lines[0])
    assert all(name == name.lower() for name in found)
    vary_names(fields)
    if well_formed(fields):
        assert not any(character in name + value for name, value in fields for character in "\r\n\0")


def structured_dictionary(data: bytes) -> None:
    """A dictionary or nothing."""
    parsed = parse_dictionary(data.decode("latin-1"))
    assert parsed is None or all(key == key.lower() for key in parsed)


def http_date(data: bytes) -> None:
    """A date that was read is written back to the same second."""
    seconds = parse_http_date(data.decode("latin-1"), 1_800_000_000.0)
    if seconds is not None and seconds >= 0:
        assert parse_http_date(format_http_date(seconds)) == seconds


def freshness(data: bytes) -> None:
    """A lifetime is never negative, whatever the fields say."""
    lines = data.decode("latin-1").split("\n")
    fields = tuple((name, value) for name, _, value in (line.partition(":") for line in lines))
    assert lifetime(200, fields, 1.0, 1_800_000_000.0).fresh_s >= 0
    assert corrected_initial_age(fields, 1_800_000_000.0, 1_800_000_001.0) >= 0


def grant_token(data: bytes) -> None:
    """A token is a grant or refused by name."""
    text = data.decode("latin-1")
    looks_like_token(text)
    try:
        grant, claims, signature = decode(text)
    except GrantRefused:
        return
    assert grant.prefix.startswith("/")
    assert claims
    assert signature


def cache_status(data: bytes) -> None:
    """A parent's field is kept and ours is appended on the same line."""
    received = data.decode("latin-1").replace("\r", "").replace("\n", "")
    said = with_member(received, CacheStatus("fra-1", Outcome.HIT, ttl_s=1.0))
    assert "fra-1; hit" in said
    assert "\n" not in said


def dns_query(data: bytes) -> None:
    """A datagram is ignored, refused or a query of one question."""
    header = read_header(data)
    if header is None:
        return
    try:
        query = read_query(data, header)
    except MalformedQuery:
        return
    assert query is not None


def proxy_header(data: bytes) -> None:
    """A PROXY header is read to its end and never beyond, or refused."""
    head = b""
    try:
        while needed := proxyheader.missing(head):
            piece = data[len(head) : len(head) + needed]
            head += piece
            if len(piece) < needed:
                return
        told = proxyheader.parse(head)
    except proxyheader.BadProxyHeader:
        return
    assert data.startswith(head)
    assert told.client is None or isinstance(told.client, ipaddress.IPv4Address | ipaddress.IPv6Address)
    assert 0 <= told.port < 65536


def client_hello(data: bytes) -> None:
    """A ClientHello is waited for within bounds, and gives an ASCII name or none."""
    needed = clienthello.wanted(data)
    assert needed <= max(len(data), clienthello.LONGEST_HELLO)
    name = clienthello.server_name(data)
    assert name is None or (name and name.isascii())


_HELLO: Final = (
    bytes.fromhex("160301003c010000380303") + bytes(32) + bytes.fromhex("00000213010100000d000000090007000004612e6162")
)  # for a.ab


def upload_fields(data: bytes) -> None:
    """What a client says of its upload is read or refused with a ValueError; what is read fits in the catalogue."""
    text = data.decode("latin-1")
    for read in (tusfields.metadata, tusfields.checksum, tusfields.concat, tusfields.number):
        with suppress(ValueError):
            read(text)
    with suppress(ValueError):
        sent = uploadrange.parse_content_range(text)
        assert sent.size is None or sent.last is None or sent.last < sent.size
        assert sent.length >= 0
    assert ietffields.boolean(text) in (True, False, None)
    number = ietffields.integer(text)
    assert number is None or 0 <= number < 10**15
    video = video_maker(5, title=text, filename=ietffields.filename(text), description=text, content_type=text, tags=[text])
    made = video(parse_video_id("dQw4w9WgXcQ"))
    assert 0 < len(made.title) <= 200
    assert made.title.isprintable() or not set(made.title) & {chr(code) for code in (*range(32), 127)}
    assert len(made.filename) <= 255
    assert len(made.content_type) <= 127


def api_token(data: bytes) -> None:
    """A token that is read is written as it was."""
    text = data.decode("latin-1")
    with suppress(InvalidToken):
        assert parse_token(text).text == text.strip()
    with suppress(TokenRefused):
        bearer_token(text, Scope.UPLOAD)


TARGETS: Final = {
    "request-target": FuzzTarget(request_target, (b"/videos/a/b.m4s?grant=x", b"/%61%2e%2E/..;/a", b"http://www.test/a")),
    "host-field": FuzzTarget(host_field, (b"www.test:80", b"[2001:db8::1]:443", b"127.0.0.1")),
    "byte-range": FuzzTarget(byte_range, (b"bytes=0-1,5-,-7", b"bytes 0-1/2", b"bytes=9-3")),
    "conditions": FuzzTarget(conditions, (b'W/"a", "b"\n"b"', b"Sun, 06 Nov 1994 08:49:37 GMT\n*", b"*")),
    "header-fields": FuzzTarget(header_fields, (b"Cache-Control:max-age=1, private=\"a, b\"\nConnection:X-A\nVary:*", b"a:b")),
    "structured-dictionary": FuzzTarget(structured_dictionary, (b'max-age=1, a="b";c, d=(1 2), e=:YQ==:, f=?1', b"a=1.5")),
    "http-date": FuzzTarget(
        http_date,
        (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"),
    ),
    "freshness": FuzzTarget(freshness, (b"Cache-Control:max-age=60\nAge:1\nDate:Sun, 06 Nov 1994 08:49:37 GMT", b"Expires:0")),
    "grant-token": FuzzTarget(grant_token, (b"AQAB", b"h1.bGFiLTE.x")),
    "upload-fields": FuzzTarget(
        upload_fields,
        (b"filename aGk=,private", b"sha1 qUqP5cyxm6YcTAhz05Hph5gvu9M=", b"final;/upload/tus/dQw4w9WgXcQ", b"bytes 0-9/10",
         b"?1;a=b",
         b"inline; filename=\"a.mp4\"; filename*=UTF-8''%C3%9F"),
    ),
    "api-token": FuzzTarget(api_token, (b"Bearer hw_000102030405_" + b"A" * 43, b"hw_000102030405_" + b"A" * 43)),
    "cache-status": FuzzTarget(cache_status, (b'shield-1; fwd=uri-miss; stored', b'"a,b"; hit')),
    "dns-query": FuzzTarget(dns_query, (bytes.fromhex("12340100000100000000000104763366610363646e04746573740000010001"),)),
    "client-hello": FuzzTarget(client_hello, (_HELLO, b"\x16\x03\x01\x00\x04\x01\x00\x00\x00")),
    "proxy-header": FuzzTarget(
        proxy_header,
        (
            b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n",
            b"PROXY UNKNOWN\r\n",
            proxyheader.SIGNATURE + b"\x21\x11\x00\x0c" + bytes(12),
            proxyheader.SIGNATURE + b"\x20\x00\x00\x00",
        ),
    ),
}  # fmt: skip
