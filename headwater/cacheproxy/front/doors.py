"""Where a proxy's clients come in: plain, over TLS, or from a balancer that tells their address.

Connections are accepted here and not by the loop: what comes before the first request (a PROXY header, a handshake) has to
be under the same limits, and a PROXY header has to be read before TLS begins. Their transports are aiofastnet's: it knows
`sendfile`, and its TLS is fast (docs/adr/0008, 0013).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiofastnet

from headwater.cacheproxy.front.gate import Limit, reached
from headwater.cacheproxy.front.server import ProxyServer
from headwater.cacheproxy.metrics import REFUSALS
from headwater.cacheproxy.roles import ClientAddress
from headwater.rules.proxyheader import BadProxyHeader, missing, parse
from headwater.runtime.httpsite import DRAIN_S
from headwater.runtime.listener import listening_socket
from headwater.runtime.logs import Log
from headwater.runtime.tls import Certificates
from headwater.runtime.tlsserver import context_for, serve_tls
from headwater.settings.listening import ProxyProtocol
from headwater.settings.units import Address

_ENTER_S: Final = 1.0  # how long a node that drains waits for handshakes
_PAUSE_S: Final = 0.1  # after a failed accept: out of file descriptors, which pass
# How many newcomers come in before those who are here are looked at again: a share of these, so that a turn is about as long for
# the ones as for the others. Fewer, and of a crowd that comes at once the last wait while the first ask again and again.
_NEWCOMERS_SHARE: Final = 1 / 4
_NEWCOMERS_AT_LEAST: Final = 16
_NEWCOMERS_AT_MOST: Final = 128
_HANDSHAKES_AT_MOST: Final = 16  # one costs as much as ten plain newcomers


@dataclass(frozen=True, slots=True)
class Door:
    """One listener. `tls` and `balancers` may both be set: the PROXY header then comes before the handshake.

    `listener` is a listening socket that other workers of the node hold too.
    """

    address: Address
    tls: Certificates | None = None
    balancers: ProxyProtocol | None = None
    congestion: str | None = None
    listener: socket.socket | None = None


@asynccontextmanager
async def open_doors(
    server: ProxyServer, doors: Sequence[Door], log: Log, *, linger_s: float = 0.0, drain_s: float = DRAIN_S
) -> AsyncIterator[None]:
    """Serves until the context ends. Then nothing new is accepted; for `linger_s` open connections go on, each answer its
    connection's last; then idle ones are closed and running requests have `drain_s` to finish. Raises CannotStart."""
    async with contextlib.AsyncExitStack() as opened:
        watch = asyncio.create_task(server.gate.watch(), name="watch-connections")
        opened.push_async_callback(_cancelled, watch)
        try:
            for door in doors:
                await opened.enter_async_context(_open(server, door, log))
            yield
        finally:
            await _close_listeners(opened)
            await server.leave(linger_s)
            await asyncio.sleep(0)  # requests that arrived begin before idle connections are closed
            server.pre_shutdown()
            await server.shutdown(drain_s)
            await _cancelled(watch)


async def _close_listeners(opened: contextlib.AsyncExitStack) -> None:
    await opened.pop_all().aclose()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def _open(server: ProxyServer, door: Door, log: Log) -> AsyncIterator[None]:
    listener = door.listener or listening_socket(door.address, congestion=door.congestion, log=log)
    entrance = _Entrance(server, door, listener, log)
    entrance.open()
    try:
        yield
    finally:
        await entrance.close()
        listener.close()


class _Entrance:
    """Accepts connections and brings each to its first byte of HTTP."""

    def __init__(self, server: ProxyServer, door: Door, listener: socket.socket, log: Log) -> None:
        self._server = server
        self._door = door
        self._listener = listener
        self._log = log
        self._entering: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._at_once()):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # another worker was faster, or the client left
            except OSError as error:
                self._log.error("connection not accepted", error=str(error))
                loop.remove_reader(self._listener)
                self._paused = loop.call_later(_PAUSE_S, self.open)
                return
            connection.setblocking(False)
            if len(self._entering) >= self._server.gate.limits.connections:  # a handshake is work: no more than connections
                reached(Limit.CONNECTIONS)
                connection.close()
                return
            bare = self._door.tls is None and self._door.balancers is None
            entering = self._enter_bare(connection) if bare else self._enter(connection, peer[0])
            task = loop.create_task(entering)
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    def _at_once(self) -> int:
        """Of several workers each takes one by one until it has a few: a busy one comes round less often, and takes fewer."""
        least = _NEWCOMERS_AT_LEAST if self._door.listener is None else 1
        most = _NEWCOMERS_AT_MOST if self._door.tls is None else _HANDSHAKES_AT_MOST
        return min(most, max(least, int(self._server.gate.connections * _NEWCOMERS_SHARE)))

    async def close(self) -> None:
        """Accepts nothing any more; what was accepted comes in, if it does so soon."""
        if self._paused is not None:
            self._paused.cancel()
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._entering:
            await asyncio.wait(self._entering, timeout=_ENTER_S)
        for task in list(self._entering):
            task.cancel()
        await asyncio.gather(*self._entering, return_exceptions=True)

    async def _enter_bare(self, connection: socket.socket) -> None:
        """Nothing comes before the first request."""
        try:
            await aiofastnet.connect_accepted_socket(asyncio.get_running_loop(), self._server.connection, connection)
        except OSError as error:  # it left
            connection.close()
            self._log.debug("connection ended before its first request", error=str(error))

    async def _enter(self, connection: socket.socket, host: str) -> None:
        handed_over = False
        peer = ipaddress.ip_address(host.partition("%")[0])
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(self._server.gate.limits.header_timeout):
                protocol = self._protocol(await self._told(connection, peer))
                context = None if self._door.tls is None else await context_for(connection, self._door.tls)
                handed_over = True
                if context is None:
                    await aiofastnet.connect_accepted_socket(asyncio.get_running_loop(), protocol, connection)
                else:
                    await serve_tls(connection, protocol, context, self._server.gate.limits.header_timeout)
        except BadProxyHeader as error:
            self._refused("proxy_header_bad", peer, error)
        except TimeoutError as error:
            reached(Limit.HEADER_SLOW)
            self._refused(Limit.HEADER_SLOW, peer, error)
        except ssl.SSLError as error:
            self._refused("tls_handshake", peer, error)
        except OSError as error:  # it left
            self._log.debug("connection ended before its first request", client=str(peer), error=str(error))
        finally:
            if not handed_over:
                connection.close()

    async def _told(self, connection: socket.socket, peer: ClientAddress) -> ClientAddress | None:
        """The client that the balancer tells of; None when the peer itself is the client. Raises BadProxyHeader."""
        balancers = self._door.balancers
        if balancers is None or not any(peer in network for network in balancers.networks):
            return None
        loop = asyncio.get_running_loop()
        head = b""
        while needed := missing(head):
            data = await loop.sock_recv(connection, needed)
            if not data:
                raise BadProxyHeader("the connection ended within the header")
            head += data
        return parse(head).client

    def _protocol(self, client: ClientAddress | None) -> Callable[[], asyncio.Protocol]:
        return lambda: self._server.connection(client)

    def _refused(self, reason: str, peer: ClientAddress, error: Exception) -> None:
        REFUSALS.labels(reason).inc()
        if self._server.gate.worth_logging(reason):
            self._log.info("connection refused", reason=reason, client=str(peer), error=str(error))
