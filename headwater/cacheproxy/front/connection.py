"""One client's connection under the node's limits: a protocol around the HTTP one, which it passes everything on to.

It knows four states: a header is awaited (`idle`), arriving (`_header_since`), being answered (`_request`), and refused
(`_ending_at`: nothing is read any more, and the client has a moment to read why).
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Protocol

from aiohttp import web

from headwater.cacheproxy.front.gate import Gate, Limit, reached
from headwater.cacheproxy.metrics import CUT_OFF, REFUSALS
from headwater.cacheproxy.roles import ClientAddress
from headwater.rules.proxyheader import begins
from headwater.runtime.logs import Log
from headwater.runtime.problems import PROBLEM_JSON, problem_body

_LINGER_S: Final = 1.0  # closing at once with unread bytes resets the connection, and the client never sees the answer
NOBODY: Final = ipaddress.IPv4Address("0.0.0.0")
_REASONS: Final = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}


class AtOnce(Protocol):
    """What may answer requests before anybody else sees them. Its connection tells it of its transport, when that is full, and of
    the client (NOBODY: one without an address)."""

    transport: Any
    client: ClientAddress
    paused: bool

    def answer_at_once(self, data: bytes) -> bool:
        """Whether these bytes were a request that is answered now; else nothing has happened."""


class Inner(Protocol):
    """The HTTP protocol, as its connection sees it."""

    @property
    def awaits_request(self) -> bool:
        """Whether what comes next belongs to a header: no request is read that waits, is handled or has a body to come."""

    def connection_made(self, transport: Any) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, error: Exception | None, /) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class GuardedConnection(asyncio.Protocol):
    """`make_inner` makes the HTTP protocol, once a request comes that `lane` does not answer; `client` is the address that a
    balancer told, if one stands in front."""

    def __init__(
        self,
        make_inner: Callable[[], Inner],
        gate: Gate,
        log: Log,
        client: ClientAddress | None = None,
        lane: AtOnce | None = None,
    ) -> None:
        self.client: ClientAddress = client or NOBODY
        self._make_inner = make_inner
        self._inner: Inner | None = None
        self._lane = lane
        self._gate = gate
        self._log = log
        self._told = client
        self._transport: Any = None
        self._passing = False  # whether the lane and the inner protocol have the connection
        self._paused = False
        self._first = True
        self._request: web.BaseRequest | None = None
        self._header_since: float | None = None
        self._header_bytes = 0
        self._idle_since = 0.0
        self._ending_at: float | None = None
        self._resumed = 0
        self._received = 0
        self._reader_window: tuple[float, int, int] | None = None  # since, bytes waiting then, resumes until then
        self._body_window: tuple[float, int] | None = None  # since, bytes received until then

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._told is None:
            peer = transport.get_extra_info("peername")
            self.client = _address(peer[0]) if peer else NOBODY
        self._idle_since = self._gate.now_s = asyncio.get_running_loop().time()
        limit = self._gate.enter(self)
        if self._gate.full:
            transport.abort()
        elif limit is not None:
            self._refuse(503, limit, "this node takes no more connections; try again or elsewhere")
        else:
            self._passing = True
            if self._lane is not None:
                self._lane.transport, self._lane.client = self._seen, self.client

    def data_received(self, data: bytes) -> None:
        if not self._passing:
            return
        if self._lane is not None and self._lane.answer_at_once(data):
            self._first, self._idle_since = False, self._gate.now_s
            return
        if self._first:
            self._first = False
            if begins(data):
                REFUSALS.labels("proxy_header_unexpected").inc()
                self._refuse(400, "proxy_header_unexpected", "a PROXY header of an address that is no balancer of this node")
                return
        self._received += len(data)
        inner = self._inner or self._begin_inner()
        if inner.awaits_request:
            if self._header_since is None:
                self._header_since, self._header_bytes = self._gate.now_s, 0
            self._header_bytes += len(data)
            if self._header_bytes - len(data) > self._gate.limits.header:  # what came before was no whole header
                self._refuse(431, reached(Limit.HEADER), f"no whole header in {self._gate.limits.header} bytes")
                return
        inner.data_received(data)
        if not inner.awaits_request:  # a whole header: for answers that no handler gives, `begun` is never called
            self._header_since, self._idle_since = None, self._gate.now_s

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._passing and self._inner is not None else None

    def connection_lost(self, error: Exception | None) -> None:
        self._gate.leave(self)
        self._leave_inner(error)

    def pause_writing(self) -> None:
        self._note_paused(True)
        if self._passing and self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._resumed += 1
        self._note_paused(False)
        if self._passing and self._inner is not None:
            self._inner.resume_writing()

    def leave_if_idle(self) -> None:
        """The node ends. Connections whose requests the inner protocol handles end with these; the others once what was
        answered is sent."""
        if self._passing and self._inner is None:
            self._transport.close()

    def begun(self, request: web.BaseRequest) -> None:
        """A handler has the request; until `ended` only its body is awaited."""
        self._request, self._header_since, self._body_window = request, None, None

    def ended(self) -> None:
        self._request, self._idle_since = None, self._gate.now_s

    def check(self, now_s: float) -> int:
        """Ends the connection when it is too slow. Returns the bytes that wait to be sent on it."""
        if self._transport is None:
            return 0
        if self._ending_at is not None:
            if now_s >= self._ending_at:
                self._transport.abort()
            return 0
        waiting: int = self._transport.get_write_buffer_size()
        if waiting:
            self._idle_since = now_s
        if waiting and self._reads_too_slowly(waiting, now_s):
            CUT_OFF.labels(reached(Limit.READER_SLOW).value).inc()
            self._note(Limit.READER_SLOW)
            self._transport.abort()
        elif self._request is not None:
            self._check_body(self._request, now_s)
        elif self._header_since is not None and now_s - self._header_since > self._gate.limits.header_timeout:
            self._refuse(408, reached(Limit.HEADER_SLOW), f"no whole header in {self._gate.limits.header_timeout:g} s")
        elif self._header_since is None and now_s - self._idle_since > self._gate.limits.idle_timeout:
            reached(Limit.IDLE)
            self._transport.close()
        if not waiting:
            self._reader_window = None
        return waiting

    def _reads_too_slowly(self, waiting: int, now_s: float) -> bool:
        if self._reader_window is None:
            self._reader_window = (now_s, waiting, self._resumed)
            return False
        since, before, resumed = self._reader_window
        moved = before - waiting
        if moved < 0 or moved >= self._gate.limits.least_progress or resumed != self._resumed:
            self._reader_window = (now_s, waiting, self._resumed)
            return False
        return now_s - since > self._gate.limits.reader_timeout

    def _check_body(self, request: web.BaseRequest, now_s: float) -> None:
        if request.content.is_eof() or not self._transport.is_reading():  # whole, or it is we who do not read
            self._body_window = None
            return
        if self._body_window is None or self._received - self._body_window[1] >= self._gate.limits.least_progress:
            self._body_window = (now_s, self._received)
        elif now_s - self._body_window[0] > self._gate.limits.body_timeout:
            limit = reached(Limit.BODY_SLOW)
            detail = f"less than {self._gate.limits.least_progress} bytes of the body in {self._gate.limits.body_timeout:g} s"
            if request.writer.output_size:
                self._note(limit)
                self._transport.abort()
            else:
                self._refuse(408, limit, detail)

    def _refuse(self, status: int, reason: str, detail: str) -> None:
        """A problem document in place of whatever the inner protocol would say, then the end."""
        self._note(reason)
        body = problem_body(status, reason, _REASONS[status], detail)
        head = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {PROBLEM_JSON}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        if status == 503:
            head.append(f"Retry-After: {math.ceil(self._gate.limits.retry_after)}")
        self._transport.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body)
        self._ending_at = asyncio.get_running_loop().time() + _LINGER_S
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._leave_inner(ConnectionResetError(reason))

    def _leave_inner(self, error: Exception | None) -> None:
        if self._passing:
            self._passing = False
            if self._inner is not None:
                self._inner.connection_lost(error)

    @property
    def _seen(self) -> Any:
        """The transport as the lane and the inner protocol see it."""
        return self._transport if self._told is None else ToldPeer(self._transport, self.client)

    def _begin_inner(self) -> Inner:
        inner = self._inner = self._make_inner()
        inner.connection_made(self._seen)
        if self._paused:
            inner.pause_writing()
        return inner

    def _note_paused(self, paused: bool) -> None:
        self._paused = paused
        if self._lane is not None:
            self._lane.paused = paused

    def _note(self, reason: str) -> None:
        if self._gate.worth_logging(reason):
            self._log.info("connection refused", reason=reason, client=str(self.client))


@lru_cache(maxsize=4096)
def _address(text: str) -> ClientAddress:
    """Of a peer, whose zone (RFC 4007) is a matter of this machine. A client opens several connections."""
    return ipaddress.ip_address(text.partition("%")[0])


class ToldPeer:
    """A transport whose peer is the client that a balancer told of; everything else is the connection's own."""

    def __init__(self, transport: asyncio.Transport, client: ClientAddress) -> None:
        self._transport = transport
        self._client = client

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (str(self._client), 0) if name == "peername" else self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
