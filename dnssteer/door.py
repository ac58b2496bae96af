"""The steering node's HTTP door: one site for all that is steered over HTTP, plain and (where wanted) over TLS.

Each output brings its own routes: an object with `add_to(app)`. What they share is here: who the client is, the problem
documents, the listeners.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import Protocol

from aiohttp import web

from headwater.rules.forwardedfor import IpAddress, client_behind
from headwater.runtime.httpsite import problems, serve_app
from headwater.runtime.logs import Log
from headwater.runtime.tasks import Supervised
from headwater.runtime.tls import Certificates
from headwater.settings.snapshot import Snapshot
from headwater.settings.steeringdoor import SteeringDoor


class Routes(Protocol):
    """One output's part of the site."""

    def add_to(self, app: web.Application) -> None:
        """Adds its routes."""


@asynccontextmanager
async def serve_door(settings: SteeringDoor | None, outputs: Sequence[Routes], log: Log) -> AsyncIterator[None]:
    """Serves the outputs until the context ends; nothing when the deployment has no door. Raises CannotStart."""
    if settings is None:
        yield
        return
    async with AsyncExitStack() as listeners, Supervised(log) as tasks:
        await listeners.enter_async_context(serve_app(door_app(outputs), settings.listen))
        if settings.tls is not None:
            certificates = Certificates(settings.tls, log)
            tasks.start("watch-certificates", certificates.watch)
            secure = serve_app(door_app(outputs), settings.tls.listen, tls=certificates.context)
            await listeners.enter_async_context(secure)
        yield


def door_app(outputs: Sequence[Routes]) -> web.Application:
    app = web.Application(middlewares=[problems])
    for output in outputs:
        output.add_to(app)
    return app


def client_of(request: web.Request, snapshot: Snapshot) -> IpAddress:
    """The viewer's address: the connection's, or what a trusted proxy in front says of it."""
    door = snapshot.deployment.dns.http
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    address = ip_address(peer[0].partition("%")[0]) if peer else ip_address("0.0.0.0")
    claims = request.headers.getall("X-Forwarded-For", [])
    return client_behind(address, claims, door.trusted if door is not None else ())


def is_secure(request: web.Request, snapshot: Snapshot) -> bool:
    """Whether the viewer spoke TLS: to this door, or to whoever stands in front of it under a public https address."""
    door = snapshot.deployment.dns.http
    return request.secure or (door is not None and (door.public_url or "").startswith("https:") and door.tls is None)
