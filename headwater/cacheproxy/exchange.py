"""One request and what becomes known of it on its way: read by every step, written to the access log at the end."""

from __future__ import annotations

import http
import ipaddress
import time
from dataclasses import dataclass, field

from aiohttp import web

from headwater.cacheproxy.front.server import guard_of
from headwater.cacheproxy.roles import ClientAddress, Passage, Site
from headwater.rules.cachestatus import CacheStatus, Forwarded, Outcome
from headwater.rules.fields import Fields, end_to_end, well_formed
from headwater.rules.requesttarget import Target
from headwater.runtime.trace import TRACEPARENT, Trace, continue_trace
from headwater.settings.snapshot import Snapshot

_KNOWN = frozenset(int(status) for status in http.HTTPStatus)


@dataclass(slots=True)
class Exchange:
    """`started` is monotonic seconds, `now` Unix seconds: one clock reading serves the whole request."""

    request: web.BaseRequest
    snapshot: Snapshot
    node: str
    now: float
    started: float
    trace: Trace
    client: ClientAddress
    fields: Fields
    target: Target | None = None
    site: Site | None = None
    passage: Passage | None = None
    key: str | None = None
    outcome: Outcome = Outcome.LOCAL
    forwarded: Forwarded | None = None  # why a parent was asked, where that is known better than by the outcome
    cache_status: CacheStatus | None = None
    parent: str | None = None
    refusal: str | None = None
    cut_off: str | None = None
    status: int = 0
    sent_bytes: int = 0
    first_byte_s: float | None = None
    answer_headers: dict[str, str] = field(default_factory=dict)
    for_worker: bool = False  # asked by another worker of this node, not by a client
    hidden: tuple[str, ...] = ()  # fields between the tiers and the site only, in lower case

    @property
    def method(self) -> str:
        return self.request.method

    def forward_interim(self, status: int, fields: Fields) -> None:
        """Passes a 1xx on while the client still waits for the answer (RFC 9110 section 15.2); HTTP/1.0 knows none."""
        transport = self.request.transport
        if self.status or transport is None or transport.is_closing() or self.request.version < (1, 1):
            return
        if not well_formed(fields):  # these lines are written here, not by aiohttp, which would refuse them
            return
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase if status in _KNOWN else ''}"]
        lines += [f"{name}: {value}" for name, value in end_to_end(fields)]
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def header_sent(self, status: int) -> None:
        self.status = status
        self.first_byte_s = time.perf_counter() - self.started


def read_exchange(request: web.BaseRequest, snapshot: Snapshot, node: str) -> Exchange:
    return Exchange(
        request=request,
        snapshot=snapshot,
        node=node,
        now=time.time(),
        started=time.perf_counter(),
        trace=continue_trace(request.headers.get(TRACEPARENT)),
        client=_client_of(request),
        fields=tuple(request.headers.items()),
    )


def _client_of(request: web.BaseRequest) -> ClientAddress:
    """The address of the connection; a forwarded-for header is anybody's claim."""
    guard = guard_of(request)
    return ipaddress.IPv4Address(0) if guard is None else guard.client  # a Unix socket has no address
