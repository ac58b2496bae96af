"""Listening for HTTP: a site that opens with a clear error when it cannot, and drains when it closes."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from headwater.runtime.metrics import CONTENT_TYPE_LATEST, exposition
from headwater.runtime.problems import Problem
from headwater.settings.units import Address

LISTEN_BACKLOG = 4096
DRAIN_S = 10.0
LINGER_S = 10.0
LATE_STEPS = 4
SERVER_NAME = "headwater"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class CannotStart(Exception):
    """The node cannot start; the message is one sentence that names the cure."""


@asynccontextmanager
async def serve_app(
    app: web.Application,
    address: Address | Path,
    *,
    drain_s: float = DRAIN_S,
    linger_s: float = LINGER_S,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Serves an application until the context ends; running requests then have `drain_s` seconds to finish.

    A body that was answered before its end is read on for at most `linger_s`, so that its client gets to read the answer.
    """
    app.on_response_prepare.append(name_server)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=drain_s, lingering_time=linger_s)
    async with _serving(runner, address, tls):
        yield


async def name_server(request: web.Request, response: web.StreamResponse) -> None:
    if response.headers.get("Server") in (None, SERVER_SOFTWARE):  # the library and its version are nobody's business
        response.headers["Server"] = SERVER_NAME


@asynccontextmanager
async def serve_handler(
    handler: Handler, address: Address | Path, *, drain_s: float = DRAIN_S, tls: ssl.SSLContext | None = None, **server: Any
) -> AsyncIterator[None]:
    """Serves one handler for every request, without routing. A path is a Unix socket.

    `server` are arguments of `aiohttp.web.Server`.
    """
    runner = web.ServerRunner(web.Server(handler, access_log=None, **server), handle_signals=False, shutdown_timeout=drain_s)
    async with _serving(runner, address, tls):
        yield


@asynccontextmanager
async def _serving(runner: web.BaseRunner, address: Address | Path, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    await runner.setup()
    try:
        site: web.BaseSite
        if isinstance(address, Path):
            site = web.UnixSite(runner, address, backlog=LISTEN_BACKLOG)
        else:
            site = web.TCPSite(runner, address.host, address.port, backlog=LISTEN_BACKLOG, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            if isinstance(address, Path):
                raise CannotStart(f"cannot listen on {address}: {error.strerror or error}.") from error
            raise cannot_listen(error, address) from error
        yield
    finally:
        # A connection that was accepted in the moment of closing joins the server a few steps of the loop later; one that found
        # the server closed, or came while it shuts down, would never be closed.
        for opened in runner.sites:
            _accept_no_more(opened)
        for _ in range(LATE_STEPS):
            await asyncio.sleep(0)
        for opened in runner.sites:
            await opened.stop()
        await runner.cleanup()


def _accept_no_more(site: web.BaseSite) -> None:
    """On asyncio's own loop a server that is closed drops what it has accepted and not yet joined; uvloop's does not."""
    server = site._server
    if isinstance(server, asyncio.Server):
        loop = asyncio.get_running_loop()
        for listener in server.sockets:
            loop.remove_reader(listener.fileno())


def cannot_listen(error: OSError, address: Address, *, listing: str = "ss -ltnp") -> CannotStart:
    """The sentence for a listener that did not open. `listing` is the command that shows who has the port."""
    if error.errno == errno.EADDRINUSE:
        why = f"{address} is in use: stop the program that listens there (`{listing}`), or change the address in the config."
    elif error.errno == errno.EADDRNOTAVAIL:
        why = f"{address.host} is no address of this machine: change the address in the config."
    elif error.errno in (errno.EACCES, errno.EPERM):
        why = f"{address} may not be opened by this user: choose a port above 1023 or run with more rights."
    else:
        why = f"cannot listen on {address}: {error.strerror or error}."
    return CannotStart(why)


@web.middleware
async def problems(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Turns `Problem` and aiohttp's own HTTP errors into problem documents."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPNotFound:
        detail = f"there is nothing at {request.path}"
        return Problem(404, "not-found", "Not found", detail).response()
    except web.HTTPMethodNotAllowed as error:
        allow = ", ".join(sorted(error.allowed_methods))
        detail = f"{request.method} is not possible here; allowed: {allow}"
        return Problem(405, "method-not-allowed", "Method not allowed", detail, headers={"Allow": allow}).response()
    except web.HTTPRequestEntityTooLarge as error:
        return Problem(413, "body-too-large", "Body too large", error.text or "the body is too large").response()


async def _own_metrics() -> str:
    return exposition()[0].decode()


def admin_app(
    healthy: Callable[[], str | None] = lambda: None, metrics_text: Callable[[], Awaitable[str]] = _own_metrics
) -> web.Application:
    """/healthz and /metrics. `healthy` returns why the node cannot serve, or None; `metrics_text` is Prometheus text."""

    async def healthz(request: web.Request) -> web.Response:
        reason = healthy()
        return web.json_response({"status": "down" if reason else "up", "reason": reason}, status=503 if reason else 200)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=(await metrics_text()).encode(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", metrics)
    return app
