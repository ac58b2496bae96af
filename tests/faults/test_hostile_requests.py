"""Hostile requests against a real edge before an ordinary site: each is refused by name, or reaches the upstream as exactly one
well-formed request. The upstream reads strictly and would say when two hops could frame what it got differently.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from headwater.settings.limits import Limits
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Property
from tests.support.proxies import RunningEdge, running_edge
from tests.support.rawhttp import answers, exchange
from tests.support.strictparent import ANSWER, StrictParent, strict_parent

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: www.test\r\n\r\n"
HOST = b"Host: www.test\r\n"


@asynccontextmanager
async def site(deployment: Deployment, folder: Path, answer: bytes = ANSWER) -> AsyncIterator[tuple[StrictParent, RunningEdge]]:
    async with strict_parent(answer) as parent:
        settings = Property(hosts=["www.test"], signed=False, parent=parent.address.url, shielded=False, cors=False)
        snapshot = Snapshot(version=1, deployment=deployment.model_copy(update={"properties": {"site": settings}}))
        # What never becomes a whole header ends soon.
        limits = Limits.model_validate({"header_timeout": "500 ms"})
        async with running_edge(snapshot, folder, limits=limits) as edge:
            yield parent, edge


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST /a HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


MALFORMED = {
    # Request smuggling: RFC 9112 section 11.2.
    "length and chunked": post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nX" + SMUGGLED),
    "chunked and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED + b"0\r\n\r\n"),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 43", body=SMUGGLED),
    "two equal lengths": post(b"Content-Length: 2", b"Content-Length: 2", body=b"ab"),
    "a list of lengths": post(b"Content-Length: 2, 2", body=b"ab"),
    "a negative length": post(b"Content-Length: -1", body=SMUGGLED),
    "a signed length": post(b"Content-Length: +2", body=b"ab"),
    "a length in hex": post(b"Content-Length: 0x2", body=b"ab"),
    "a length with an underscore": post(b"Content-Length: 1_0", body=b"0123456789"),
    "a length with a space": post(b"Content-Length: 1 0", body=b"0123456789"),
    "a length beyond 64 bits": post(b"Content-Length: 99999999999999999999999", body=b"ab"),
    "an empty length": post(b"Content-Length: ", body=SMUGGLED),
    "unknown coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "coding that only ends alike": post(b"Transfer-Encoding: chunked-x", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked not last": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked in two fields": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + SMUGGLED),
    "vertical tab before the coding": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "quoted coding": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n" + SMUGGLED),
    "space before the colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "space before the length's colon": post(b"Content-Length : 43", body=SMUGGLED),
    "tab before the colon": post(b"Content-Length\t: 43", body=SMUGGLED),
    "folded field": post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "folded first field": b"GET /a HTTP/1.1\r\n Host: www.test\r\n\r\n",
    "bare LF ends": b"POST /a HTTP/1.1\nHost: www.test\nContent-Length: 43\n\n" + SMUGGLED,
    "bare LF in the header": b"GET /a HTTP/1.1\r\nHost: www.test\nX-A: b\r\n\r\n",
    "bare CR in a value": post(b"X-A: b\rTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "NUL in a value": post(b"X-A: b\x00c"),
    "control byte in a value": post(b"X-A: b\x01c"),
    "NUL in a name": post(b"X\x00A: b"),
    "space in a name": post(b"X A: b"),
    "field without a name": post(b": b"),
    "field without a colon": post(b"Nothing"),
    "chunk size with a sign": post(b"Transfer-Encoding: chunked", body=b"+2\r\nab\r\n0\r\n\r\n"),
    "chunk size in 0x": post(b"Transfer-Encoding: chunked", body=b"0x2\r\nab\r\n0\r\n\r\n"),
    "chunk size with a space": post(b"Transfer-Encoding: chunked", body=b"2 \r\nab\r\n0\r\n\r\n" + SMUGGLED),
    "chunk that does not end": post(b"Transfer-Encoding: chunked", body=b"2\r\nabcd\r\n0\r\n\r\n" + SMUGGLED),
    "chunk ended by LF": post(b"Transfer-Encoding: chunked", body=b"2\nab\n0\n\n" + SMUGGLED),
    "giant chunk": post(b"Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\nab\r\n0\r\n\r\n"),
    "negative chunk": post(b"Transfer-Encoding: chunked", body=b"-1\r\nab\r\n0\r\n\r\n"),
    "chunk extension with bare LF": post(b"Transfer-Encoding: chunked", body=b"2;a\nb\r\nab\r\n0\r\n\r\n" + SMUGGLED),
    # Targets and versions.
    "HTTP/2 in plain": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.9": b"GET /a HTTP/1.9\r\n" + HOST + b"\r\n",
    "HTTP/11": b"GET /a HTTP/11.1\r\n" + HOST + b"\r\n",
    "tab for a space": b"GET\t/a\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "header injection by the target": b"GET /a\rX: y HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the target": b"GET /a\x00b HTTP/1.1\r\n" + HOST + b"\r\n",
    "raw bytes in the target": b"GET /\xc0\xae\xc0\xae/a HTTP/1.1\r\n" + HOST + b"\r\n",
    "method in lower case": b"get /a HTTP/1.1\r\n" + HOST + b"\r\n",
    "method that is no token": b"G(T /a HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    # Host games.
    "no Host": b"GET /a HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /a HTTP/1.1\r\nHost: www.test\r\nHost: other.test\r\n\r\n",
    "two equal Hosts": b"GET /a HTTP/1.1\r\nHost: www.test\r\nHost: www.test\r\n\r\n",
    "Host with a space before its colon": b"GET /a HTTP/1.1\r\nHost : www.test\r\n\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
async def test_what_could_be_framed_in_two_ways_is_refused_and_ends_the_connection(
    deployment: Deployment, tmp_path: Path, sent: bytes
) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        got = answers(await exchange(edge.address, sent))
        assert [answer.status for answer in got] in ([400], []), [(answer.status, answer.body) for answer in got]
        assert [line for line in parent.lines if "smuggled" in line] == []
        assert parent.requests == []
        assert '"refusal":' in edge.log.getvalue() or not got
        if got:
            assert got[0].reason != ""


NORMALISED = {
    "two spaces": (b"GET  /a HTTP/1.1\r\n" + HOST, "GET /a HTTP/1.1", b""),
    "obs-text in a value": (b"GET /a HTTP/1.1\r\n" + HOST + b"X-A: \xff\r\n", "GET /a HTTP/1.1", b""),
    "chunked in capitals": (
        post(b"Transfer-Encoding: CHUNKED", b"Connection: close", body=b"2\r\nab\r\n0\r\n"),
        "POST /a HTTP/1.1",
        b"ab",
    ),
    "chunk extension": (
        post(b"Transfer-Encoding: chunked", b"Connection: close", body=b'2;a="b"\r\nab\r\n0\r\n'),
        "POST /a HTTP/1.1",
        b"ab",
    ),
    "trailer": (
        post(b"Transfer-Encoding: chunked", b"Connection: close", body=b"2\r\nab\r\n0\r\nHost: evil.test\r\n"),
        "POST /a HTTP/1.1",
        b"ab",
    ),
    "connection names a framing field": (
        post(b"Connection: close, Content-Length", b"Content-Length: 2", body=b"ab"),
        "POST /a HTTP/1.1",
        b"ab",
    ),
    "connection names Host": (b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: close, Host\r\n", "GET /a HTTP/1.1", b""),
    "escapes": (b"GET /%61%2e%7e HTTP/1.1\r\n" + HOST, "GET /a.~ HTTP/1.1", b""),
    "a port in Host": (b"GET /a HTTP/1.1\r\nHost: www.test:8080\r\n", "GET /a HTTP/1.1", b""),
    "Host in capitals": (b"GET /a HTTP/1.1\r\nHost: WWW.TEST\r\n", "GET /a HTTP/1.1", b""),
    "absolute form": (b"GET http://www.test/a HTTP/1.1\r\n" + HOST, "GET /a HTTP/1.1", b""),
    "HTTP/1.0": (b"GET /a HTTP/1.0\r\n" + HOST, "GET /a HTTP/1.1", b""),
    "upgrade": (
        b"GET /a HTTP/1.1\r\n" + HOST + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAA\r\n",
        "GET /a HTTP/1.1",
        b"",
    ),
}


@pytest.mark.parametrize(("sent", "line", "body"), NORMALISED.values(), ids=NORMALISED)
async def test_what_is_odd_but_clear_reaches_the_upstream_as_one_well_formed_request(
    deployment: Deployment, tmp_path: Path, sent: bytes, line: str, body: bytes
) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        closing = b"" if b"Connection: " in sent else b"Connection: close\r\n"
        got = answers(await exchange(edge.address, sent + closing + b"\r\n"))
        assert [answer.status for answer in got] == [200]
        assert parent.faults == []
        assert [(request.line, request.body) for request in parent.requests] == [(line, body)]
        assert parent.requests[0].values("host") == [str(parent.address)]
        named = {name for name, _ in parent.requests[0].fields}
        assert not named & {"connection", "upgrade", "http2-settings", "trailer", "te", "keep-alive"}


REFUSED_TARGETS = {
    "dot segments": (b"/a/../b", 400, "target_dot_segment"),
    "escaped dots": (b"/a/%2e%2e/b", 400, "target_dot_segment"),
    "half escaped dots": (b"/a/.%2E/b", 400, "target_dot_segment"),
    "dot": (b"/./a", 400, "target_dot_segment"),
    "escaped slash": (b"/a%2fb", 400, "target_bad_escape"),
    "escaped backslash": (b"/a%5cb", 400, "target_bad_escape"),
    "backslash": (b"/a\\b", 400, "target_bad_character"),
    "empty segment": (b"/a//b", 400, "target_empty_segment"),
    "network path": (b"//evil.test/a", 400, "target_empty_segment"),
    "NUL": (b"/a%00", 400, "target_bad_escape"),
    "CRLF": (b"/a%0d%0aX:%20y", 400, "target_bad_escape"),
    "overlong slash": (b"/a%c0%afb", 400, "target_bad_escape"),
    "overlong dots": (b"/%c0%ae%c0%ae/a", 400, "target_bad_escape"),
    "overlong in three bytes": (b"/%e0%80%ae/a", 400, "target_bad_escape"),
    "Microsoft escape": (b"/%u002e/a", 400, "target_bad_escape"),
    "half an escape": (b"/a%2", 400, "target_bad_escape"),
    "semicolon dots": (b"/a/..;/b", 400, "target_dot_segment"),
    "asterisk": (b"*", 400, "request_malformed"),
    "absolute form of another scheme": (b"ftp://www.test/a", 400, "target_not_a_path"),
    "absolute form of another host": (b"http://evil.test/a", 400, "target_other_host"),
    "absolute form with a password": (b"http://www.test@evil.test/a", 400, "target_other_host"),
    "fragment": (b"/a#b", 400, "target_bad_character"),
    "too long": (b"/" + b"a" * 5000, 414, "target_too_long"),
}


@pytest.mark.parametrize(("target", "status", "reason"), REFUSED_TARGETS.values(), ids=REFUSED_TARGETS)
async def test_tricks_with_paths_have_their_names(
    deployment: Deployment, tmp_path: Path, target: bytes, status: int, reason: str
) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        (got,) = answers(await exchange(edge.address, b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"))
        assert (got.status, got.reason) == (status, reason)
        assert got.fields["cache-control"] == "no-store"
        assert f'"refusal":"{reason}"' in edge.log.getvalue()
        assert parent.requests == []


@pytest.mark.parametrize(
    ("host", "status", "reason"),
    [
        (b"evil.test", 421, "host_unknown"),
        (b"www.test.evil.test", 421, "host_unknown"),
        (b"evil.test:www.test", 400, "host_malformed"),
        (b"www.test:80:80", 400, "host_malformed"),
        (b"www.test:port", 400, "host_malformed"),
        (b"www.test@evil.test", 400, "host_malformed"),
        (b"www.test/evil", 400, "host_malformed"),
        (b"www.test,evil.test", 400, "host_malformed"),
        (b"www.test evil.test", 400, "host_malformed"),
        (b"[www.test]", 400, "host_malformed"),
        (b"[::1", 400, "host_malformed"),
        (b"[::1]evil", 400, "host_malformed"),
        (b"[::1%25lo]", 400, "host_malformed"),
        (b"[::1]", 421, "host_unknown"),
        (b"", 400, "host_malformed"),
    ],
)
async def test_games_with_host_have_their_names(
    deployment: Deployment, tmp_path: Path, host: bytes, status: int, reason: str
) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        sent = b"GET /a HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
        (got,) = answers(await exchange(edge.address, sent))
        assert (got.status, got.reason) == (status, reason)
        assert parent.requests == []


async def test_http_0_9_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        assert [one.reason for one in answers(await exchange(edge.address, b"GET /a\r\n"))] == ["header_too_slow"]
        (got,) = answers(await exchange(edge.address, b"GET /a\r\n" + HOST + b"\r\n"))
        assert (got.status, got.reason) == (505, "version_unsupported")
        assert parent.requests == []


async def test_http_1_0_keeps_a_connection_only_when_asked_to(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        once = b"GET /a HTTP/1.0\r\n" + HOST + b"\r\n"
        kept = b"GET /a HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n"
        assert len(answers(await exchange(edge.address, once + once))) == 1
        assert len(answers(await exchange(edge.address, kept + once))) == 2
        assert parent.faults == []


# Unkeyed input: what an upstream might build its answer from although the cache key does not have it.
@pytest.mark.parametrize(
    "line",
    [
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Scheme: gopher",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Server: evil.test",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: host=evil.test",
        "X-Host: evil.test",
        "X-Original-Host: evil.test",
        "X-Original-URL: /evil",
        "X-Rewrite-URL: /evil",
        "X-Real-IP: 127.0.0.1",
        "True-Client-IP: 127.0.0.1",
        "X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Method-Override: DELETE",
        "Headwater-Node: stolen",
        "Headwater-Property: other",
    ],
)
async def test_what_is_not_in_the_key_does_not_reach_the_upstream_of_a_stored_answer(
    deployment: Deployment, tmp_path: Path, line: str
) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        sent = b"GET /a HTTP/1.1\r\n" + HOST + line.encode() + b"\r\nConnection: close\r\n\r\n"
        assert answers(await exchange(edge.address, sent))[0].status == 200
        name, _, value = line.partition(": ")
        assert value not in parent.requests[0].values(name.lower())


async def test_a_fat_get_is_neither_stored_nor_answered_from_the_store(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        fat = b"GET /a HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nConnection: close\r\n\r\nevil"
        lean = b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        for sent in (fat, lean, fat):
            assert answers(await exchange(edge.address, sent))[0].status == 200
            await edge.settled()
        assert [request.body for request in parent.requests] == [b"evil", b"", b"evil"]
        assert parent.faults == []


async def test_a_range_bomb_is_no_more_than_the_object(deployment: Deployment, tmp_path: Path) -> None:
    body = bytes(100_000)
    whole = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000\r\n\r\n" + body
    async with site(deployment, tmp_path, whole) as (parent, edge):
        for ranges in ("0-," * 1000, "5-0," * 500, ",".join(f"{n}-{n}" for n in range(0, 1000, 2)), "0-99999," * 5, "-1," * 1000):
            sent = f"GET /a HTTP/1.1\r\nHost: www.test\r\nRange: bytes={ranges.rstrip(',')}\r\nConnection: close\r\n\r\n"
            received = await exchange(edge.address, sent.encode())
            assert len(received) < len(body) + 10_000
            await edge.settled()
        assert len(parent.requests) == 1


async def test_floods_of_names_are_answered_like_any_request(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path) as (parent, edge):
        fields = b"".join(b"X-%d: a\r\n" % number for number in range(97))
        query = b"&".join(b"k%d" % number for number in range(600))
        for _ in range(2):
            sent = b"GET /a?" + query + b" HTTP/1.1\r\n" + HOST + fields + b"Connection: close\r\n\r\n"
            assert answers(await exchange(edge.address, sent))[0].status == 200
            await edge.settled()
        assert len(parent.requests) == 1
