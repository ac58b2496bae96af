"""UDP and TCP for a responder: datagrams, framed messages (RFC 1035 section 4.2.2, RFC 7766), limits and drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from dnssteer.datagrams import serve_datagrams
from dnssteer.metrics import TCP_CONNECTIONS, TCP_ENDED
from dnssteer.responder import Responder
from headwater.rules.addresses import Address
from headwater.runtime.httpsite import cannot_listen
from headwater.runtime.listener import listening_socket

# RFC 7766 section 6.2.3 asks for seconds; a resolver that keeps one open only costs a descriptor.
IDLE_S: Final = 10.0
MAX_CONNECTIONS: Final = 512
LENGTH_BYTES: Final = 2


class Ended(StrEnum):
    """How a TCP connection ended; also the metric's label."""

    CLOSED_BY_CLIENT = "closed_by_client"
    CUT_OFF_MID_MESSAGE = "cut_off_mid_message"
    IDLE = "idle"
    NOT_A_QUERY = "not_a_query"
    TOO_MANY = "too_many"
    DRAINED = "drained"


@asynccontextmanager
async def serve_dns(
    responder: Responder, address: Address, *, idle_s: float = IDLE_S, max_connections: int = MAX_CONNECTIONS
) -> AsyncIterator[None]:
    """Serves on UDP and TCP until the context ends. Raises CannotStart."""
    try:
        datagrams = await serve_datagrams(responder, address)
    except OSError as error:
        raise cannot_listen(error, address, listing="ss -lunp") from error
    streams = Streams(responder, idle_s, max_connections)
    try:
        # Not asyncio's own socket: that takes no IPv4 clients at an IPv6 address, where the one for datagrams does.
        server = await asyncio.start_server(streams.serve, sock=listening_socket(address), limit=LENGTH_BYTES + 65_535)
        try:
            yield
        finally:
            server.close()
            await streams.drain()
            await server.wait_closed()
    finally:
        datagrams.close()


class Streams:
    """TCP connections. Messages of one connection are answered in order, as they come (pipelining)."""

    def __init__(self, responder: Responder, idle_s: float, max_connections: int) -> None:
        self._responder = responder
        self._idle_s = idle_s
        self._max_connections = max_connections
        self._open: set[asyncio.Task[None]] = set()
        self._draining = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from accept to close."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= self._max_connections:
            TCP_ENDED.labels(Ended.TOO_MANY).inc()
            writer.close()
            return
        self._open.add(task)
        TCP_CONNECTIONS.inc()
        ended = Ended.DRAINED
        try:
            ended = await self._converse(reader, writer)
        except asyncio.CancelledError:
            if not self._draining:
                raise
            # Only `drain` wanted that; asyncio (before Python 3.12) takes a connection's cancelled task for a fault, and says so.
        finally:
            self._open.discard(task)
            TCP_CONNECTIONS.dec()
            TCP_ENDED.labels(ended).inc()
            writer.close()

    async def drain(self) -> None:
        """Ends all connections."""
        self._draining = True
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Ended:
        source = _ip(writer.get_extra_info("peername"))
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                    message = await reader.readexactly(length)
                    reply = self._responder.reply(message, source, over_tcp=True)
                    if reply is None:
                        return Ended.NOT_A_QUERY  # nothing to say now, so nothing that the client could wait for
                    writer.write(len(reply).to_bytes(LENGTH_BYTES, "big") + reply)
                    await writer.drain()
            except TimeoutError:
                return Ended.IDLE
            except asyncio.IncompleteReadError as error:
                return Ended.CUT_OFF_MID_MESSAGE if error.partial else Ended.CLOSED_BY_CLIENT
            except ConnectionError:
                return Ended.CLOSED_BY_CLIENT


def _ip(peer: tuple[str, int]) -> IPv4Address | IPv6Address:
    """The peer's address without its IPv6 zone, which means nothing to steering."""
    return ip_address(peer[0].partition("%")[0])
