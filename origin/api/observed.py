"""Around every request of the API: its trace, its log line, its metrics, and an answer for whatever went wrong."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware
from sqlalchemy.exc import SQLAlchemyError

from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter, histogram
from headwater.runtime.problems import Problem
from headwater.runtime.trace import TRACEPARENT, Trace, continue_trace
from origin.objects.interface import DiskFull, ObjectStoreFailed
from origin.uploads.dialects.bodies import CORS as DIALECT_CORS
from origin.uploads.dialects.routes import is_dialect
from origin.uploads.refusal import Refusal, UploadRefused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


TRACE: Final = web.RequestKey("trace", Trace)
PROBLEM: Final = web.RequestKey("problem", str)
UNMATCHED: Final = "unmatched"

REQUESTS = counter("headwater_api_requests_total", "Requests to the API, pages and part URLs.", ["method", "route", "status"])
PROBLEMS = counter("headwater_api_problems_total", "Requests to the API that were refused or failed, by problem.", ["problem"])
SECONDS = histogram("headwater_api_request_seconds", "From a request's head to its answer.", ["route"])

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
STATUS_OF: Final = {
    Refusal.EMPTY: (422, "File is empty"),
    Refusal.TOO_LARGE: (413, "File too large"),
    Refusal.PART_SIZE: (422, "Part size out of bounds"),
    Refusal.TOO_MANY_PARTS: (422, "Too many parts"),
    Refusal.KEY_REUSED: (422, "Idempotency-Key used before"),
    Refusal.NO_SUCH_VIDEO: (404, "No such video"),
    Refusal.NOT_YOURS: (403, "Upload of another creator"),
    Refusal.PARTS_MISSING: (409, "Parts missing"),
    Refusal.PARTS_DAMAGED: (409, "Parts damaged"),
    Refusal.SIZE_DIFFERS: (409, "Size differs"),
    Refusal.SIZE_UNKNOWN: (409, "Size unknown"),
    Refusal.TOO_MANY_OPEN: (429, "Too many open uploads"),
    Refusal.OVER_BUDGET: (507, "Storage budget exhausted"),
    Refusal.DISK_FULL: (507, "Disk full"),
    Refusal.OFFSET_DIFFERS: (409, "Offset differs"),
    Refusal.BEYOND_SIZE: (413, "Beyond the declared size"),
    Refusal.CHECKSUM_DIFFERS: (460, "Checksum differs"),  # the status that tus has for it
    Refusal.COMPLETED: (409, "Upload completed"),
    Refusal.NOT_A_STREAM: (409, "Not a stream"),
    Refusal.NOT_IN_PARTS: (409, "Not in parts"),
    Refusal.NOT_CONCATENABLE: (409, "Not concatenable"),
    Refusal.NO_SUCH_PART: (422, "No such part"),
    Refusal.DIGESTS: (422, "Digests missing"),
}
# Players, load tests and pages of other sites may read; only pages of this origin write.
CORS: Final = {"Access-Control-Allow-Origin": "*"}


def observing(log: Log) -> Middleware:
    """Outermost. Sets the request's trace, answers with it, counts and logs."""

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        trace = request[TRACE] = continue_trace(request.headers.get(TRACEPARENT))
        response = await handler(request)
        if not response.prepared:
            response.headers[TRACEPARENT] = trace.header()
            if request.method in ("GET", "HEAD") and request.path.startswith("/api/"):
                response.headers.update(CORS)
            elif is_dialect(request.path):
                response.headers.update(DIALECT_CORS)
        seconds = time.perf_counter() - started
        route = _route(request)
        REQUESTS.labels(request.method if request.method in METHODS else "other", route, str(response.status)).inc()
        SECONDS.labels(route).observe(seconds)
        log.info(
            "request",
            method=request.method,
            path=request.path,
            route=route,
            status=response.status,
            ms=round(seconds * 1000, 1),
            problem=request.get(PROBLEM),
            client=request.remote,
            trace_id=trace.trace_id,
        )
        return response

    return observe


def answering_failures(log: Log) -> Middleware:
    """Maps what the parts below raise to problem documents, here and nowhere else, and counts them."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            problem = _problem_of(error, log, request[TRACE].trace_id)
            PROBLEMS.labels(problem.kind).inc()
            request[PROBLEM] = problem.kind
            raise problem from error

    return answer


def _problem_of(error: Exception, log: Log, trace_id: str) -> Problem:
    match error:
        case Problem():
            return error
        case UploadRefused():
            status, title = STATUS_OF[error.refusal]
            return Problem(status, error.refusal.value, title, error.detail, **error.facts)
        case DiskFull():
            log.error("the object store's disk is full", error=str(error), trace_id=trace_id)
            return Problem(507, "disk-full", "Disk full", f"{error}; nothing that was acknowledged is lost")
        case ObjectStoreFailed():
            log.error("the object store failed", error=str(error), trace_id=trace_id)
            return _later("store-failed", "Object store failed", "the object store cannot do it just now; try again")
        case SQLAlchemyError():
            log.error("the catalogue failed", error=str(error), trace_id=trace_id)
            return _later("catalogue-failed", "Catalogue failed", "the catalogue cannot do it just now; try again")
        case _:
            log.error("request failed", exc_info=error, trace_id=trace_id)
            detail = f"the origin made a mistake; its log has it under trace id {trace_id}"
            return Problem(500, "internal-error", "Internal error", detail)


def _later(kind: str, title: str, detail: str) -> Problem:
    return Problem(503, kind, title, detail, headers={"Retry-After": "2"})


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else UNMATCHED
