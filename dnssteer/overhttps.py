"""DNS over HTTPS (RFC 8484) at the steering node's door: the same answers, by GET and POST."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import dns.message
import dns.rdatatype
from aiohttp import web

from dnssteer.door import client_of
from headwater.runtime.problems import Problem
from headwater.settings.snapshot import Snapshot

PATH: Final = "/dns-query"
MEDIA_TYPE: Final = "application/dns-message"
MAX_BYTES: Final = 65_535

Answer = Callable[[bytes, IPv4Address | IPv6Address], bytes | None]


class DnsOverHttps:
    """`answer` is that of the transports that prove their client's address; `snapshot` gives the current one."""

    def __init__(self, answer: Answer, snapshot: Callable[[], Snapshot]) -> None:
        self._answer = answer
        self._snapshot = snapshot

    def add_to(self, app: web.Application) -> None:
        app.router.add_get(PATH, self._get)
        app.router.add_post(PATH, self._post)

    async def _get(self, request: web.Request) -> web.Response:
        """RFC 8484 section 4.1: base64url without padding in `dns`."""
        text = request.query.get("dns", "")
        try:
            wire = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            wire = b""
        if not wire:
            raise Problem(
                400, "not-a-dns-query", "Not a DNS query", "`?dns=` with a DNS message in base64url was expected (RFC 8484)"
            )
        return self._answered(wire, request)

    async def _post(self, request: web.Request) -> web.Response:
        if request.content_type != MEDIA_TYPE:
            raise Problem(415, "not-a-dns-message", "Not a DNS message", f"Content-Type {MEDIA_TYPE} was expected (RFC 8484)")
        wire = await request.content.read(MAX_BYTES + 1)
        while len(wire) <= MAX_BYTES and (more := await request.content.read(MAX_BYTES + 1 - len(wire))):
            wire += more
        if len(wire) > MAX_BYTES:
            raise Problem(413, "dns-message-too-large", "Message too large", f"a DNS message has at most {MAX_BYTES} bytes")
        return self._answered(wire, request)

    def _answered(self, wire: bytes, request: web.Request) -> web.Response:
        reply = self._answer(wire, client_of(request, self._snapshot()))
        if reply is None:
            raise Problem(400, "not-a-dns-query", "Not a DNS query", "the message is no query: too short, or itself an answer")
        # Answers differ by where the client is, so that only its own cache may keep them.
        headers = {"Cache-Control": f"private, max-age={lifetime_s(reply)}", "Access-Control-Allow-Origin": "*"}
        return web.Response(body=reply, content_type=MEDIA_TYPE, headers=headers)


def lifetime_s(reply: bytes) -> int:
    """RFC 8484 section 5.1: the smallest TTL of the answer; of a negative one that of its SOA (RFC 2308); else nothing."""
    message = dns.message.from_wire(reply)
    negative = [min(rrset.ttl, rrset[0].minimum) for rrset in message.authority if rrset.rdtype == dns.rdatatype.SOA]
    return min((rrset.ttl for rrset in message.answer), default=min(negative, default=0))
