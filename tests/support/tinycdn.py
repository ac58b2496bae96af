"""A CDN in miniature on real sockets: an API, edges on loopback addresses, a DNS server. What it serves is fixed and tiny.

It stands for the other side of the load test's contracts (API, URLs, DNS, headers), with faults to order.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from aiohttp import web

from headwater.rules.names import bucket_of, logical_host, parse_video_id
from headwater.runtime.httpsite import serve_handler
from headwater.settings.units import Address
from tests.support.deployments import free_port

VIDEO = parse_video_id("dQw4w9WgXcQ")
HOST = logical_host(bucket_of(VIDEO), "cdn.test")
GRANT = "A" * 60 + "." + "B" * 20
SEGMENTS = 8
SEGMENT_S = 0.25

MASTER = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="sound",DEFAULT=YES,URI="aac/128k/playlist.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=400000,CODECS="avc1.64001e,mp4a.40.2",AUDIO="aac"
h264/240p/playlist.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1.64001f,mp4a.40.2",AUDIO="aac"
h264/360p/playlist.m3u8
"""
MEDIA = "\n".join(
    [
        "#EXTM3U",
        "#EXT-X-TARGETDURATION:1",
        '#EXT-X-MAP:URI="init.mp4"',
        *(f"#EXTINF:{SEGMENT_S},\nsegment_{number:05d}.m4s" for number in range(SEGMENTS)),
        "#EXT-X-ENDLIST\n",
    ]
)


@dataclass(slots=True)
class Faults:
    """What goes wrong, by the end of the path asked for."""

    status: dict[str, int] = field(default_factory=dict)
    delay_s: dict[str, float] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    bodies: dict[str, bytes] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    playback: dict[str, Any] | None = None
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR


@dataclass(slots=True)
class TinyCdn:
    """`answers` are the addresses that the DNS gives, best first; `asked` counts (edge, path), `subnets` DNS questions."""

    api: Address
    dns: Address
    edge_port: int
    answers: list[str]
    faults: Faults = field(default_factory=Faults)
    videos: list[dict[str, str]] = field(default_factory=lambda: [{"video_id": VIDEO, "status": "ready"}])
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    hosts: set[str] = field(default_factory=set)
    subnets: Counter[str] = field(default_factory=Counter)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer_api(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/api/v1/videos":
            return web.json_response({"videos": self.videos, "next_cursor": None})
        hls = f"http://{HOST}:{self.edge_port}/{GRANT}/videos/{VIDEO}/master.m3u8"
        return web.json_response(self.faults.playback or {"status": "playable", "reason": None, "hls": hls})

    async def answer_edge(self, request: web.BaseRequest, edge: str) -> web.StreamResponse:
        self.hosts.add(request.headers["Host"])
        path = request.path.removeprefix(f"/{GRANT}")
        known = self.asked[edge, path] > 0
        self.asked[edge, path] += 1
        fault = self.faults

        def ordered(kind: Any) -> str | None:
            return next((end for end in kind if path.endswith(end)), None)

        if (end := ordered(fault.delay_s)) is not None:
            await asyncio.sleep(fault.delay_s[end])
        if ordered(fault.hangs) is not None:
            await self.closing.wait()
        if (end := ordered(fault.status)) is not None:
            return web.Response(status=fault.status[end])
        body = self._body(path)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {
            "Cache-Status": f"{edge}; hit" if known else f"shield-1; fwd=uri-miss; stored, {edge}; fwd=uri-miss; stored",
            "Repr-Digest": f"sha-256=:{digest}:",
        }
        if ordered(fault.damaged) is not None:
            body = b"x" + body[1:]
        if ordered(fault.cut) is not None:
            response = web.StreamResponse(headers=headers | {"Content-Length": str(len(body) + 1)})
            await response.prepare(request)
            await response.write(body)
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=body, headers=headers)

    def _body(self, path: str) -> bytes:
        for end, body in self.faults.bodies.items():
            if path.endswith(end):
                return body
        if path.endswith("master.m3u8"):
            return MASTER.encode()
        return MEDIA.encode() if path.endswith("playlist.m3u8") else path.encode() * 500

    def answer_dns(self, wire: bytes) -> bytes:
        question = dns.message.from_wire(wire)
        self.subnets[next(option.to_text() for option in question.options if isinstance(option, dns.edns.ECSOption))] += 1
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.AA
        reply.set_rcode(self.faults.rcode)
        if self.answers and self.faults.rcode == dns.rcode.NOERROR and question.question[0].rdtype == dns.rdatatype.A:
            reply.answer = [dns.rrset.from_text_list(question.question[0].name, 20, "IN", "A", self.answers)]
        return reply.to_wire(want_shuffle=False)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, cdn: TinyCdn) -> None:
        self._cdn = cdn

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._cdn.answer_dns(data), addr)


@asynccontextmanager
async def tiny_cdn(edges: tuple[str, ...] = ("127.0.1.1", "127.0.2.1")) -> AsyncIterator[TinyCdn]:
    """The CDN, listening."""
    edge_port = free_port()
    cdn = TinyCdn(Address("127.0.0.1", free_port()), Address("127.0.0.1", free_port()), edge_port, list(edges))
    async with AsyncExitStack() as open_sites:
        await open_sites.enter_async_context(serve_handler(cdn.answer_api, cdn.api, drain_s=0.1))
        for edge in edges:
            await open_sites.enter_async_context(serve_handler(_edge_handler(cdn, edge), Address(edge, edge_port), drain_s=0.1))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(cdn), local_addr=(cdn.dns.host, cdn.dns.port)
        )
        open_sites.callback(transport.close)
        open_sites.callback(cdn.closing.set)
        yield cdn


def _edge_handler(cdn: TinyCdn, edge: str) -> Any:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await cdn.answer_edge(request, edge)

    return answer
