"""The server's side of TLS for many connections: aiofastnet's transport, and the certificate chosen before it begins.

The transport hands OpenSSL's records straight from and to the socket; uvloop's own spends twice as much on a small answer
(docs/adr/0008). It takes the context as it is given: a context with a Python `sni_callback` would crash it, so the client's first
message is looked at, without being taken away, and the certificate for its name is chosen by us.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import aiofastnet

from headwater.rules.clienthello import LONGEST_HELLO, server_name, wanted
from headwater.runtime.readable import readable
from headwater.runtime.tls import Certificates

# Room for one record (RFC 8446 section 5.2) in each direction. aiofastnet's own 16 records hold 256 KiB for each client that is
# slow to read; and larger bodies go out faster by one, still in the processor's cache when it is sent (docs/adr/0008).
BUFFER_BYTES: Final = 16 * 1024 + 64


async def serve_tls(
    connection: socket.socket, protocol: Callable[[], asyncio.Protocol], context: ssl.SSLContext, handshake_timeout_s: float
) -> None:
    """Gives an accepted connection to a protocol, whose `connection_made` is called once the handshake is done.

    The connection is this function's from now on. Raises OSError (as ssl.SSLError is one) when the handshake fails.
    """
    loop = asyncio.get_running_loop()
    if loop.get_exception_handler() is None:
        loop.set_exception_handler(_without_clients_that_left)
    await aiofastnet.connect_accepted_socket(
        loop,
        protocol,
        connection,
        ssl=context,
        ssl_handshake_timeout=handshake_timeout_s,
        ssl_incoming_bio_size=BUFFER_BYTES,
        ssl_outgoing_bio_size=BUFFER_BYTES,
    )


async def context_for(connection: socket.socket, certificates: Certificates) -> ssl.SSLContext:
    """The context for the name that the client asks for. Takes nothing from the connection, and waits as long as it is silent."""
    if certificates.only is not None:
        return certificates.only
    return certificates.chosen(server_name(await _first_bytes(connection)))


async def _first_bytes(connection: socket.socket) -> bytes:
    """What lies in the socket, once it is as much as is wanted, or will not become more."""
    seen = -1
    try:
        while True:
            try:
                data = connection.recv(LONGEST_HELLO, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                data = None
            if data is not None:
                needed = wanted(data)
                if needed <= len(data) or len(data) <= seen or needed > LONGEST_HELLO:
                    return data
                seen = len(data)
                # What is seen stays there: only more than it must wake us.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
            await readable(connection)
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def _without_clients_that_left(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """aiofastnet reports a client that left in its handshake with an exception's class, which logging cannot take; whoever
    awaits the handshake is told as well, and counts it."""
    error = context.get("exception")
    if not (isinstance(error, type) and issubclass(error, OSError)):
        loop.default_exception_handler(context)
