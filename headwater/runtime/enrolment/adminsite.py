"""A node's admin address with enrolment: plain for what anybody may read, mutual TLS for what changes something or tells more.

Both are spoken on the same port: the first byte of a TLS connection is 22 (RFC 8446 section 5.1), which begins no HTTP request.
/healthz and /metrics are answered in plain, so that health checks need no certificate: an expired one must not take a node that
serves out of steering, and whoever collects metrics is no part of the deployment. All else is for control, but for what caches
fetch from each other.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from headwater.rules.nodeidentity import CONTROL, NodeIdentity, identity_of_uri
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.enrolment.peers import closing, peer_of
from headwater.runtime.httpsite import DRAIN_S, name_server, problems, serve_app
from headwater.runtime.listener import listening_socket
from headwater.runtime.metrics import counter
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.runtime.problems import Problem
from headwater.runtime.readable import readable
from headwater.settings.snapshot import Snapshot
from headwater.settings.units import Address

OPEN: Final = ("/healthz", "/metrics")
BETWEEN_CACHES: Final = "/stored/"
TLS_HANDSHAKE: Final = 22
FIRST_BYTE_S: Final = 5.0
PAUSE_S: Final = 0.1
LINGER_S: Final = 10.0
ENTERING_AT_MOST: Final = 1000
PEER: Final = web.RequestKey("peer", str)
IDENTITY: Final = web.RequestKey("identity", NodeIdentity)
PEER_HEADER: Final = "Headwater-Peer"  # from the parent of a node's workers to a worker, on a socket of this node's own

REFUSED = counter(
    "headwater_orders_refused_total", "Requests to the admin address refused for want of a certificate, by reason.", ["reason"]
)

SnapshotOf = Callable[[], Snapshot]


def asker(request: web.Request, snapshot: Snapshot) -> str | None:
    """The node that asks: by its certificate where there is enrolment, else by its token."""
    if snapshot.deployment.control.enrolment is not None or PEER in request:
        named: str | None = request.get(PEER)
        return named
    return snapshot.node_of_token(request.headers.get(NODE_HEADER, ""))


@asynccontextmanager
async def serve_admin(
    app: web.Application, address: Address | Path, identity: Identity | None, snapshot: SnapshotOf | None = None
) -> AsyncIterator[None]:
    """Serves a node's admin site; in plain alone without an identity. A path is the socket of a worker, whose parent has seen to
    certificates. `snapshot` tells whose certificates count."""
    if identity is None or isinstance(address, Path):
        if isinstance(address, Path) and identity is not None:
            app.middlewares.append(_relayed(snapshot))
        async with serve_app(app, address):
            yield
        return
    if problems not in app.middlewares:
        app.middlewares.append(problems)
    app.middlewares.insert(0, closing)
    app.middlewares.append(_guard(snapshot))
    app.on_response_prepare.append(name_server)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=DRAIN_S, lingering_time=LINGER_S)
    await runner.setup()
    entrance = _Entrance(runner, listening_socket(address), identity)
    try:
        entrance.open()
        yield
    finally:
        await entrance.close()
        await runner.cleanup()


def _guard(snapshot: SnapshotOf | None) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        peer = peer_of(request)
        if peer is None:
            raise _refused(
                "certificate-missing", "this takes the certificate of control: use the `headwater` commands, where it runs"
            )
        if time.time() >= peer.expires:
            raise _refused("certificate-expired", "the certificate has expired while its connection was open; connect again")
        request[PEER] = _who(peer.identity, request.path, snapshot() if snapshot is not None else None)
        request[IDENTITY] = peer.identity
        return await handler(request)

    return guard


def _relayed(snapshot: SnapshotOf | None) -> Any:
    """At a worker, whose parent has looked at the certificate, but knows nothing of snapshots."""

    @web.middleware
    async def relayed(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        identity = identity_of_uri(request.headers.get(PEER_HEADER, ""))
        if identity is not None:
            request[PEER] = _who(identity, request.path, snapshot() if snapshot is not None else None)
        return await handler(request)

    return relayed


def relayed_fields(request: web.Request) -> dict[str, str]:
    """What the parent of a node's workers says of whoever asks, in the place of what they may say themselves."""
    identity: NodeIdentity | None = request.get(IDENTITY)
    fields = {name: value for name, value in request.headers.items() if name.lower() != PEER_HEADER.lower()}
    return fields if identity is None else {**fields, PEER_HEADER: identity.uri}


def _who(identity: NodeIdentity, path: str, snapshot: Snapshot | None) -> str:
    """The node that asks, if its certificate counts and it may ask this. Raises Problem."""
    if snapshot is not None and identity.deployment != snapshot.deployment.name:
        raise _refused("certificate-foreign", f"the certificate is of the deployment {identity.deployment}")
    if snapshot is not None and identity.enrolment < snapshot.enrolments.get(identity.node, 0):
        raise _refused("certificate-revoked", f"{identity.node} was revoked, or enrolled anew elsewhere")
    control = identity.role == identity.node == CONTROL
    if not control and not path.startswith(BETWEEN_CACHES):
        raise _refused("certificate-of-a-node", f"only control may ask this, not {identity.node}")
    return CONTROL if control else identity.node


def _refused(reason: str, detail: str) -> Problem:
    REFUSED.labels(reason).inc()
    return Problem(403, reason, reason.replace("-", " ").capitalize(), detail)


class _Entrance:
    """Accepts connections and looks at their first byte, which stays there."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, identity: Identity) -> None:
        self._runner = runner
        self._listener = listener
        self._identity = identity
        self._entering: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def close(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in list(self._entering):
            task.cancel()
        await asyncio.gather(*self._entering, return_exceptions=True)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it left
        except OSError:  # no more files, which passes
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            self._paused = loop.call_later(PAUSE_S, self.open)
            return
        connection.setblocking(False)
        if len(self._entering) >= ENTERING_AT_MOST:
            connection.close()
            return
        task = asyncio.create_task(self._enter(connection))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _enter(self, connection: socket.socket) -> None:
        loop, handed_over = asyncio.get_running_loop(), False
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(FIRST_BYTE_S):
                first = await _first_byte(connection)
                tls = self._identity.server if first == TLS_HANDSHAKE else None
                server = self._runner.server
                if first is None or server is None:
                    return
                handed_over = True
                await loop.connect_accepted_socket(server, connection, ssl=tls)
        except (TimeoutError, OSError):
            pass  # it left, was silent, or shows a certificate that is not of our CA
        finally:
            if not handed_over:
                connection.close()


async def _first_byte(connection: socket.socket) -> int | None:
    """None when the peer left without a word."""
    while True:
        try:
            data = connection.recv(1, socket.MSG_PEEK)
            return data[0] if data else None
        except (BlockingIOError, InterruptedError):
            await readable(connection)
