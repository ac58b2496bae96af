"""Interim responses (RFC 9110 section 15.2): aiohttp's client drops them, but a proxy must pass them on.

The response class sees each header block as the parser gives it and reports the 1xx ones before the final one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import aiohttp

from headwater.rules.fields import Fields

OnInterim = Callable[[int, Fields], None]

# Of the task that asks: aiohttp makes the response object itself and passes nothing of ours to it.
on_interim_response: ContextVar[OnInterim | None] = ContextVar("on_interim_response", default=None)


class _Reporting:
    """Stands in for an object of aiohttp while a header is read; everything but the named attribute is the original's."""

    def __init__(self, original: Any, **replaced: Any) -> None:
        self._original = original
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class ResponseWithInterim(aiohttp.ClientResponse):
    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        report = on_interim_response.get()
        if report is None:
            return await super().start(connection)
        protocol = connection.protocol

        async def read() -> Any:
            message, payload = await protocol.read()
            if 101 < message.code < 200:
                pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in message.raw_headers)
                report(message.code, tuple(pairs))
            return message, payload

        stand_in: Any = _Reporting(connection, protocol=_Reporting(protocol, read=read))
        await super().start(stand_in)
        if self._connection is not None:
            self._connection = connection
        if self._protocol is not None:
            self._protocol = protocol
        return self
