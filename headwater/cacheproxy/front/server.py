"""The HTTP server of a proxy: aiohttp's own, with limits around each connection and a name for each request it cannot read."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from aiohttp import http_exceptions, web
from aiohttp.http_parser import RawRequestMessage

from headwater.cacheproxy.front.connection import AtOnce, GuardedConnection, Inner
from headwater.cacheproxy.front.gate import Gate, Limit, reached
from headwater.cacheproxy.metrics import REFUSALS
from headwater.cacheproxy.roles import ClientAddress
from headwater.runtime.logs import Log
from headwater.runtime.problems import PROBLEM_JSON, problem_body
from headwater.settings.limits import Limits

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
OnUnreadable = Callable[[web.BaseRequest, int, str], None]

_MALFORMED: Final = "request_malformed"
_TITLES: Final = {400: "Bad request", 414: "URI too long", 431: "Request header fields too large"}
_UNTOLD = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a request could not be parsed, as its refusal."""

    status: int
    reason: str
    detail: str


def unreadable(error: BaseException | None, limits: Limits) -> Unreadable:
    """The refusal for what aiohttp's parser raised. Anything that two hops could frame differently is `request_malformed`."""
    if isinstance(error, http_exceptions.LineTooLong):
        if error.args[1] == limits.request_line:
            return Unreadable(414, Limit.URL, f"the request line has more than {limits.request_line} bytes")
        return Unreadable(431, Limit.HEADER_FIELD, f"a header field has more than {limits.header_field} bytes")
    message = getattr(error, "message", "") or str(error)
    if message.startswith("Too many headers"):
        return Unreadable(431, Limit.HEADER_FIELDS, f"the header has more than {limits.header_fields} fields")
    first_line = message.strip().partition("\n")[0]
    return Unreadable(400, _MALFORMED, _UNTOLD.sub(" ", first_line)[:120] or "the request cannot be parsed")


class NamedRefusals(web.RequestHandler):
    """aiohttp's protocol, whose parser's refusals are problem documents with a reason. To be mixed into other subclasses."""

    __slots__ = ()

    @property
    def awaits_request(self) -> bool:
        waits = self._waiter is not None and not self._waiter.done()
        return not self._messages and (waits or not self._request_count)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        manager = self._manager
        if status != 400 or not isinstance(manager, ProxyServer):
            return super().handle_error(request, status, exc, message)
        why = unreadable(exc, manager.gate.limits)
        if why.reason != _MALFORMED:
            reached(Limit(why.reason))
        REFUSALS.labels(why.reason).inc()
        manager.on_unreadable(request, why.status, why.reason)
        body = problem_body(why.status, why.reason, _TITLES[why.status], why.detail)
        headers = {"Content-Type": PROBLEM_JSON, "Cache-Control": "no-store"}
        response = web.Response(status=why.status, body=body, headers=headers)
        response.force_close()
        return response


class Lane(AtOnce, Protocol):
    """A connection's way past the ordinary handler, which it makes itself, to know whether that is at work."""

    def handler(self, server: web.Server, **arguments: Any) -> Inner: ...


class ProxyServer(web.Server):
    """Makes a guarded connection for each client. `lane` makes its way past the ordinary handler, where there is one."""

    def __init__(
        self,
        handler: Handler,
        gate: Gate,
        log: Log,
        on_unreadable: OnUnreadable,
        lane: Callable[[], Lane] | None = None,
    ) -> None:
        limits = gate.limits
        super().__init__(
            _reporting(handler),
            request_factory=self._request,
            # A client that leaves cancels its handler, so that a fill learns that nobody follows it any more.
            handler_cancellation=True,
            access_log=None,
            max_line_size=limits.request_line,
            # The parser has one error for both; the limit that it names tells them apart.
            max_field_size=limits.header_field + (limits.header_field == limits.request_line),
            max_headers=limits.header_fields,
            # Ours comes first, and is counted; aiohttp's stays as a net.
            keepalive_timeout=limits.idle_timeout + 60,
            lingering_time=limits.body_timeout,
            auto_decompress=False,  # a proxy passes bodies on as they are
        )
        self.gate = gate
        self.on_unreadable = on_unreadable
        self._log = log
        self._lane = lane

    async def leave(self, linger_s: float) -> None:
        """From now on each answer says that it is its connection's last, so that no client meets a closed connection in the
        moment in which it asks. Returns when all clients have left, or after `linger_s`."""
        self.gate.leaving = True
        if linger_s:
            await self._emptied(linger_s)

    def pre_shutdown(self) -> None:
        super().pre_shutdown()
        self.gate.send_idle_away()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Running requests have `timeout` seconds to finish, and so has what was answered and is not sent yet."""
        ends_at = self._loop.time() + (timeout or 0.0)
        await super().shutdown(timeout)
        await self._emptied(ends_at - self._loop.time())

    async def _emptied(self, timeout_s: float) -> None:
        if self.gate.connections and timeout_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gate.emptied.wait(), timeout_s)

    def _request(
        self, message: RawRequestMessage, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
    ) -> web.BaseRequest:
        if self.gate.leaving:
            message = message._replace(should_close=True)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)

    def connection(self, client: ClientAddress | None = None) -> GuardedConnection:
        """The protocol of a new connection; `client` is its address when a balancer told it."""
        lane = None if self._lane is None else self._lane()
        make: Callable[..., Inner] = NamedRefusals if lane is None else lane.handler
        make_inner = partial(make, self, loop=asyncio.get_running_loop(), **self._kwargs)
        return GuardedConnection(make_inner, self.gate, self._log, client, lane)


def guard_of(request: web.BaseRequest) -> GuardedConnection | None:
    """The request's connection, while it is open."""
    protocol = request.transport.get_protocol() if request.transport is not None else None
    return protocol if isinstance(protocol, GuardedConnection) else None


def _reporting(handler: Handler) -> Handler:
    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        guard = guard_of(request)
        if guard is None:
            return await handler(request)
        guard.begun(request)
        try:
            return await handler(request)
        finally:
            guard.ended()

    return serve
