"""A request at the origin's byte server, in this order: admit → method → key → find → plan → deliver → record.

It needs the object stores and the last snapshot, and neither catalogue nor control.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter, gauge
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.runtime.problems import Problem
from headwater.runtime.trace import TRACEPARENT, Trace, continue_trace
from headwater.settings.snapshot import Snapshot
from origin.byteserver.accesslog import AccessLog
from origin.byteserver.answers import METHODS, Plan, not_found, object_key, plan_answer
from origin.objects.interface import ObjectNotFound, ObjectStoreFailed, OpenedObject
from origin.tiers.store import TieredStore

# Up to here a body is gathered and sent with its header in one write; longer ones are streamed.
ONE_WRITE_BYTES: Final = 1024 * 1024
NO_TIER: Final = "none"

REQUESTS = counter(
    "headwater_origin_requests_total", "Requests to the byte server, by class of status and tier.", ["status", "tier"]
)
SENT_BYTES = counter("headwater_origin_sent_bytes_total", "Body bytes sent by the byte server.", ["tier"])
IN_FLIGHT = gauge("headwater_origin_requests_in_flight", "Requests that the byte server is answering now.")
ENDS = counter("headwater_origin_request_ends_total", "How requests to the byte server ended.", ["outcome"])


@dataclass(slots=True)
class Exchange:
    """What is learnt about one request on its way, for the log and the metrics."""

    trace: Trace
    started: float
    peer: str | None = None
    tier: str = NO_TIER
    status: int = 500
    sent_bytes: int = 0
    outcome: str = "failed"
    fields: dict[str, str] = field(default_factory=dict)


class ByteHandler:
    def __init__(
        self,
        objects: TieredStore,
        snapshot: Callable[[], Snapshot],
        read: Callable[[str], None],
        access_log: AccessLog,
        log: Log,
        node: str,
    ) -> None:
        self._objects = objects
        self._snapshot = snapshot
        self._read = read
        self._access_log = access_log
        self._log = log
        self._node = node

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(continue_trace(request.headers.get(TRACEPARENT)), time.perf_counter())
        with IN_FLIGHT.track_inprogress():
            try:
                return await self._answer(request, exchange)
            except Problem as problem:
                exchange.outcome = problem.kind
                return await self._refuse(request, exchange, problem)
            finally:
                self._record(request, exchange)

    async def _answer(self, request: web.BaseRequest, exchange: Exchange) -> web.StreamResponse:
        self._admit(request, exchange)
        if request.method not in METHODS:
            allow = ", ".join(METHODS)
            detail = f"{request.method} is not possible here; allowed: {allow}"
            raise Problem(405, "method-not-allowed", "Method not allowed", detail, headers={"Allow": allow})
        key = object_key(request.raw_path)
        try:
            async with self._objects.opened_in_tier(key) as (tier, opened):
                exchange.tier = tier
                plan = plan_answer(request.method, opened.info, request.headers, time.time())
                self._read(key)
                return await self._deliver(request, exchange, plan, opened)
        except ObjectNotFound:
            raise not_found(request.path) from None
        except ObjectStoreFailed as error:
            self._log.error("an object cannot be read", key=key, error=str(error), trace_id=exchange.trace.trace_id)
            raise Problem(
                503, "object-unreadable", "Object unreadable", "the object store cannot give this object now"
            ) from error

    def _admit(self, request: web.BaseRequest, exchange: Exchange) -> None:
        """Only known shields: whoever else asks learns nothing, not even which paths exist."""
        snapshot = self._snapshot()
        peer = snapshot.node_of_token(request.headers.get(NODE_HEADER, ""))
        if peer is None or peer not in snapshot.deployment.shields:
            detail = f"send the {NODE_HEADER} token of a shield of this deployment"
            raise Problem(403, "node-unknown", "Node unknown", detail)
        exchange.peer = peer

    async def _deliver(
        self, request: web.BaseRequest, exchange: Exchange, plan: Plan, opened: OpenedObject
    ) -> web.StreamResponse:
        headers = {**plan.headers, TRACEPARENT: exchange.trace.header()}
        if plan.body is None:
            head = web.Response(status=plan.status, headers=headers)
            return await self._finish(request, exchange, head, 0)
        first, last = plan.body
        length = last - first + 1
        if length <= ONE_WRITE_BYTES:
            body = b"".join([chunk async for chunk in opened.read(first, last)])
            if len(body) != length:
                raise ObjectStoreFailed(f"{opened.info.key} gave {len(body)} bytes, not {length}")
            return await self._finish(request, exchange, web.Response(status=plan.status, headers=headers, body=body), length)
        return await self._stream(request, exchange, web.StreamResponse(status=plan.status, headers=headers), opened, plan.body)

    async def _stream(
        self,
        request: web.BaseRequest,
        exchange: Exchange,
        response: web.StreamResponse,
        opened: OpenedObject,
        body: tuple[int, int],
    ) -> web.StreamResponse:
        exchange.status = response.status
        exchange.outcome = "cut-off"
        chunks = opened.read(*body)
        # Before the header is sent, so that an object that cannot be read is still a 503.
        chunk = await anext(chunks, b"")
        try:
            await response.prepare(request)
            while chunk:
                await response.write(chunk)
                exchange.sent_bytes += len(chunk)
                chunk = await anext(chunks, b"")
            if exchange.sent_bytes != body[1] - body[0] + 1:
                raise ObjectStoreFailed("the object ended early")
            await response.write_eof()
        except ObjectStoreFailed as error:
            # Unfinished is never end-of-file: the shield sees a broken connection and goes on elsewhere.
            exchange.outcome = "read-failed"
            self._log.error("an object broke off", key=opened.info.key, error=str(error), trace_id=exchange.trace.trace_id)
            if request.transport is not None:
                request.transport.abort()
            return response
        exchange.outcome = "done"
        return response

    async def _finish(
        self, request: web.BaseRequest, exchange: Exchange, response: web.Response, body_bytes: int
    ) -> web.StreamResponse:
        exchange.status = response.status
        exchange.outcome = "cut-off"
        await response.prepare(request)
        await response.write_eof()
        exchange.sent_bytes = body_bytes
        exchange.outcome = "done"
        return response

    async def _refuse(self, request: web.BaseRequest, exchange: Exchange, problem: Problem) -> web.StreamResponse:
        response = problem.response()
        response.headers[TRACEPARENT] = exchange.trace.header()
        exchange.status = response.status
        return response

    def _record(self, request: web.BaseRequest, exchange: Exchange) -> None:
        REQUESTS.labels(f"{exchange.status // 100}xx", exchange.tier).inc()
        SENT_BYTES.labels(exchange.tier).inc(exchange.sent_bytes)
        ENDS.labels(exchange.outcome).inc()
        self._access_log.record(
            time=round(time.time(), 3),
            node=self._node,
            trace_id=exchange.trace.trace_id,
            span_id=exchange.trace.span_id,
            peer=exchange.peer,
            client=request.remote,
            method=request.method,
            path=request.raw_path[:1024],
            status=exchange.status,
            outcome=exchange.outcome,
            bytes=exchange.sent_bytes,
            tier=exchange.tier,
            range=request.headers.get("Range"),
            duration_ms=round((time.perf_counter() - exchange.started) * 1000, 3),
        )
