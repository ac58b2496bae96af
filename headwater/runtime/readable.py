"""Waiting for bytes of a connection that nobody reads yet: they are looked at before it is known who is to have them."""

from __future__ import annotations

import asyncio
import socket


async def readable(connection: socket.socket) -> None:
    """Returns when the socket has something to read, or an end or error to tell. Takes nothing from it."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
