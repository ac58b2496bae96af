"""UDP for a responder: on Linux many datagrams by one system call each way, elsewhere one by one.

Most of what a remembered answer costs is the way through the interpreter and the kernel, so a batch is answered in one plain
loop, in the buffers that it arrived in.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol, TypeAlias, cast

from dnssteer.memory import HEADER_BEHIND_ID_BYTES as NAME_AT
from dnssteer.memory import ID_BYTES, Remembered
from dnssteer.metrics import UNSENT
from dnssteer.ratelimit import Counts
from dnssteer.responder import MAX_CLIENTS, Client, Responder
from headwater.rules.addresses import Address

BATCH: Final = 64
# Queries are under 512 bytes. One that does not fit is cut off, and so a format error.
SLOT_BYTES: Final = 4096
NAME_SLOT_BYTES: Final = 32
NAME_BYTES: Final = 28  # sockaddr_in6
# One turn of the event loop answers at most this many batches, so that TCP and the admin page have theirs.
BATCHES_PER_TURN: Final = 16
RECEIVE_BUFFER_BYTES: Final = 4 * 2**20
MSG_DONTWAIT: Final = 0x40


# A client, its region's answers over UDP, its network's counters.
_Peer: TypeAlias = tuple[Client, dict[bytes, Remembered], Counts]


class Closable(Protocol):
    def close(self) -> None: ...


async def serve_datagrams(responder: Responder, address: Address) -> Closable:
    """Serves until `close` is called. Raises OSError when the address cannot be had."""
    loop = asyncio.get_running_loop()
    if not sys.platform.startswith("linux"):
        transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(responder), (address.host, address.port))
        return transport
    sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind((address.host, address.port))
    except OSError:
        sock.close()
        raise
    return DatagramBatches(responder, sock, loop)


class Datagrams(asyncio.DatagramProtocol):
    """Each datagram is answered at once, in the call that brought it."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._responder.reply(data, ip_address(addr[0].partition("%")[0]), over_tcp=False)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct mmsghdr of 64-bit Linux: a msghdr and the length that was received or sent."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("end_padding", ctypes.c_uint32),
    )


class DatagramBatches:
    """One socket. Query and reply of a datagram share a slot, a header and the peer's address."""

    def __init__(self, responder: Responder, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._responder = responder
        self._socket = sock
        self._loop = loop
        libc = ctypes.CDLL(None, use_errno=True)
        self._receive, self._send = libc.recvmmsg, libc.sendmmsg
        self._receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        self._send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
        self._headers, self._vectors = (_Header * BATCH)(), (_Vector * BATCH)()
        self._slots, self._names = (ctypes.c_char * (BATCH * SLOT_BYTES))(), (ctypes.c_char * (BATCH * NAME_SLOT_BYTES))()
        for index in range(BATCH):
            vector, header = self._vectors[index], self._headers[index]
            vector.base, vector.length = ctypes.addressof(self._slots) + index * SLOT_BYTES, SLOT_BYTES
            header.name, header.name_length = ctypes.addressof(self._names) + index * NAME_SLOT_BYTES, NAME_BYTES
            header.vectors, header.vector_count = ctypes.addressof(self._vectors[index]), 1
        self._bytes = memoryview(self._slots).cast("B")
        self._name_bytes = memoryview(self._names).cast("B")
        self._header_bytes, self._vector_bytes = memoryview(self._headers).cast("B"), memoryview(self._vectors).cast("B")
        self._fresh_headers, self._fresh_vectors = bytes(self._header_bytes), bytes(self._vector_bytes)
        self._received = self._header_bytes.cast("I")[ctypes.sizeof(_Header) // 4 - 2 :: ctypes.sizeof(_Header) // 4]
        self._reply_lengths = self._vector_bytes.cast("Q")[1::2]
        self._by_name: dict[bytes, _Peer] = {}
        self._view = responder.view
        is_ipv4 = sock.family is socket.AF_INET
        first, size = (4, 4) if is_ipv4 else (8, 16)
        # Of each slot: its number, where it begins, where the id ends, where the peer's address begins and ends.
        self._places = [
            (at, at * SLOT_BYTES, at * SLOT_BYTES + ID_BYTES, at * NAME_SLOT_BYTES + first, at * NAME_SLOT_BYTES + first + size)
            for at in range(BATCH)
        ]
        self._address_of = IPv4Address if is_ipv4 else IPv6Address
        loop.add_reader(sock, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(BATCHES_PER_TURN):
            count = self._receive(self._socket.fileno(), ctypes.addressof(self._headers), BATCH, MSG_DONTWAIT, None)
            if count <= 0:
                # Nothing there; or an ICMP error of an earlier reply, which the kernel has forgotten now that it was told.
                if count < 0 and ctypes.get_errno() not in (errno.EAGAIN, errno.EWOULDBLOCK):
                    continue
                return
            self._send_replies(count, self._answer(count))
            self._header_bytes[:] = self._fresh_headers
            self._vector_bytes[:] = self._fresh_vectors
            if count < BATCH:
                return

    def _answer(self, count: int) -> list[int]:
        """Writes the replies over the queries; returns which have none."""
        responder, data, names, lengths = self._responder, self._bytes, self._name_bytes, self._reply_lengths
        view = responder.tick()
        if view is not self._view:
            self._view, self._by_name = view, {}
        by_name, limit = self._by_name, view.limiter.limits.answers or sys.maxsize
        silent: list[int] = []
        # Local names and few calls: this loop is what the server does all day.
        for size, (index, start, behind_id, first, last) in zip(self._received[:count].tolist(), self._places, strict=False):
            name = names[first:last].tobytes()
            peer = by_name.get(name) or self._peer(name)
            client, remembered, counts = peer
            key = data[behind_id : start + size].tobytes()
            known = remembered.get(key)
            if known is None:
                # In another case of its letters, the name stays as it is; only what is around it is written.
                end = key.find(b"\x00", NAME_AT)
                known = remembered.get(key[:NAME_AT] + key[NAME_AT:end].lower() + key[end:]) if end > 0 else None
                if known is not None and counts.get(known.named, 0) < limit:
                    data[behind_id : behind_id + NAME_AT] = known.tail[:NAME_AT]
                    data[behind_id + end : behind_id + known.size] = known.tail[end:]
                else:
                    known = None
            elif counts.get(known.named, 0) < limit:
                data[behind_id : behind_id + known.size] = known.tail
            else:
                known = None
            if known is not None:
                named = known.named
                counts[named] = counts.get(named, 0) + 1
                known.given += 1
                lengths[index] = known.size + ID_BYTES
                continue
            reply = responder.reply_to(data[start : start + size].tobytes(), client, over_tcp=False)
            if reply is None:
                silent.append(index)
            else:
                data[start : start + len(reply)] = reply
                lengths[index] = len(reply)
        return silent

    def _peer(self, name: bytes) -> _Peer:
        view = self._view
        if len(self._by_name) >= MAX_CLIENTS:
            self._by_name.clear()
        client = view.client(self._address_of(name))
        peer = self._by_name[name] = (client, client.over_udp.by_key, client.counts)
        return peer

    def _send_replies(self, count: int, silent: list[int]) -> None:
        """Sends the runs between those that get nothing."""
        start = 0
        for end in (*silent, count):
            while start < end:
                header = ctypes.addressof(self._headers) + start * ctypes.sizeof(_Header)
                sent = self._send(self._socket.fileno(), header, end - start, MSG_DONTWAIT)
                if sent <= 0:
                    # This one cannot be sent (no buffer, no route); the client will ask again.
                    UNSENT.inc()
                    sent = 1
                start += sent
            start = end + 1
