"""No peer but a measure: the least that Python can do on uvloop. It reads no HTTP, checks nothing and writes ready-made bytes.

python -m bench.speed.peers.floor PORT TLS_PORT PEM
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiofastnet
import uvloop

from bench.speed.servers import Server, Site, free_port, running, wait_until_serving
from bench.speed.upstream import body_of
from headwater.runtime.tlsserver import BUFFER_BYTES

NAME = "Floor"
JOINED_BYTES = 32 * 1024  # as our fast lane does
_FIELDS = b"".join(b"Field-%d: as many bytes as a header of ours has\r\n" % number for number in range(9))


class _Answering(asyncio.Protocol):
    """Every request of a connection is taken for the same as its first."""

    def __init__(self) -> None:
        self._answer: tuple[bytes, ...] = ()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._answer:
            body = body_of(data.split(b" ", 2)[1].decode())
            head = b"HTTP/1.1 200 OK\r\n" + _FIELDS + b"Content-Length: %d\r\n\r\n" % len(body)
            self._answer = (head + body,) if len(body) <= JOINED_BYTES else (head, body)
        if len(self._answer) == 1:
            self._transport.write(self._answer[0])
        else:
            self._transport.writelines(self._answer)


async def serve(port: int, tls_port: int, pem: Path) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(pem)
    plain = await loop.create_server(_Answering, "127.0.0.1", port, backlog=4096)
    buffers = {"ssl_incoming_bio_size": BUFFER_BYTES, "ssl_outgoing_bio_size": BUFFER_BYTES}
    secured = await aiofastnet.create_server(loop, _Answering, "127.0.0.1", tls_port, ssl=context, backlog=4096, **buffers)
    async with plain, secured:
        await asyncio.Event().wait()


@contextmanager
def server(site: Site, names: dict[str, str]) -> Iterator[Server | None]:
    plain, tls = free_port(), free_port()
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-m", "bench.speed.peers.floor", str(plain), str(tls), str(site.pem)]
    with running(command, site.folder, PYTHONPATH=str(root)) as pid:
        wait_until_serving(("127.0.0.1", plain))
        yield Server(NAME, "the least that Python on uvloop can do", pid, ("127.0.0.1", plain), ("127.0.0.1", tls), names)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
