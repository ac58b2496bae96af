"""A hostile or broken upstream behind a real edge: its answer reaches the client as one response, or as a gateway error."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from tests.faults.test_hostile_requests import site
from tests.support.rawhttp import answers, exchange

ASK = b"GET /%s HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: yes\r\n\r\nevil"

SPLITTING = {
    "bare CR in a value": b"HTTP/1.1 200 OK\r\nX-A: b\rX-Evil: yes\r\nContent-Length: 2\r\n\r\nok",
    "bare CRs that look like an end": b"HTTP/1.1 200 OK\r\nX-A: b\r\r" + EVIL + b"\r\nContent-Length: 2\r\n\r\nok",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 2\r\n\r\nok",
    "folded field": b"HTTP/1.1 200 OK\r\nX-A: b\r\n X-Evil: yes\r\nContent-Length: 2\r\n\r\nok",
    "bare CR in the reason": b"HTTP/1.1 200 OK\rX-Evil: yes\r\nContent-Length: 2\r\n\r\nok",
    "control bytes in the reason": b"HTTP/1.1 200 \x01\x02\r\nContent-Length: 2\r\n\r\nok",
    "space before the colon": b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok",
    "space in a name": b"HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\nok",
    "an interim answer that splits": b"HTTP/1.1 103 Hints\r\nLink: a\r\r"
    + EVIL
    + b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    + EVIL,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 200\r\n\r\nok" + EVIL,
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 200\r\n\r\nok" + EVIL,
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\nContent-Length: 2\r\n\r\nok" + EVIL,
    "giant chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n",
    "negative chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
    "an answer after the answer": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + EVIL,
    "a body after 204": b"HTTP/1.1 204 No\r\nContent-Length: 90\r\n\r\n" + EVIL,
    "a body after 304": b"HTTP/1.1 304 No\r\nContent-Length: 90\r\n\r\n" + EVIL,
    "endless interim answers": b"HTTP/1.1 102 Wait\r\n\r\n" * 1000 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "101 unasked": b"HTTP/1.1 101 Switching\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\n" + EVIL,
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\r\n\r\n",
    "header too large": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000 + b"Content-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("answer", SPLITTING.values(), ids=SPLITTING)
async def test_one_answer_stays_one_answer(deployment: Deployment, tmp_path: Path, answer: bytes, method: bytes) -> None:
    async with site(deployment, tmp_path, answer) as (parent, edge):
        for path in (b"a", b"b", b"c"):  # the second and third would get what a kept connection still holds
            received = await exchange(edge.address, (ASK % path).replace(b"GET", method))
            final = [one for one in answers(received) if one.status >= 200 or one.status == 101]
            assert len(final) <= 1
            assert all(one.status != 101 and one.body != b"evil" and "x-evil" not in one.fields for one in final)
            assert b"\r\r" not in received
            assert b"X-Evil" not in received or b"X-A: b X-Evil" in received  # folded: one value, on one line
            await edge.settled()
        assert parent.faults == []


async def test_what_a_parent_says_of_its_own_connection_goes_no_further(deployment: Deployment, tmp_path: Path) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\nConnection: keep-alive, X-Secret\r\n"
        b"X-Secret: s\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nTrailer: X\r\nUpgrade: h2c\r\n\r\nok"
    )
    async with site(deployment, tmp_path, answer) as (_, edge):
        for _ in range(2):
            (got,) = answers(await exchange(edge.address, ASK % b"a"))
            assert got.status == 200
            assert not {"x-secret", "keep-alive", "proxy-authenticate", "trailer", "upgrade"} & set(got.fields)
            await edge.settled()
