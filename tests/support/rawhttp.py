"""Bytes to a node and what comes back, on a plain socket: for requests that no HTTP client would send."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from dataclasses import dataclass
from typing import Any

from headwater.settings.units import Address

WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: its status, its fields with names in lower case, its body."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """The refusal's word in the problem document."""
        document: dict[str, Any] = json.loads(self.body)
        return str(document["type"]).rpartition(":")[2]


async def exchange(address: Address, *sent: bytes, tls: ssl.SSLContext | None = None, name: str | None = None) -> bytes:
    """Sends the pieces and reads until the node closes the connection."""
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls, server_hostname=name)
        try:
            received = b""
            try:
                for piece in sent:
                    writer.write(piece)
                    await writer.drain()
                received = await reader.read()
            except ConnectionError:
                pass
            return received
        finally:
            writer.close()


def answers(received: bytes) -> list[Answer]:
    """All responses in a stream of them; each has a length."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        match = re.match(r"HTTP/[01]\.[0-9] (\d{3})", lines[0])
        assert match is not None, received[:200]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(fields.get("content-length", 0))
        found.append(Answer(int(match[1]), fields, rest[:length]))
        received = rest[length:]
    return found


async def ask(address: Address, *sent: bytes) -> Answer:
    """The only answer to what is sent."""
    (answer,) = answers(await exchange(address, *sent))
    return answer
