"""UDP for a responder: on Linux many datagrams by one system call each way, elsewhere one by one.

Most of what a remembered answer costs is the way through the interpreter and the kernel, so a batch is answered in one plain
loop, in the buffers that it arrived in (dnssteer/batches.py).
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol, TypeAlias, cast

from dnssteer.batches import BATCH, HEAD_AT, NAME_STRIDE, OFFSET, REST, Batches, Pieces, rows
from dnssteer.memory import Remembered, address_of
from dnssteer.metrics import UNSENT
from dnssteer.ratelimit import Counts
from dnssteer.responder import MAX_CLIENTS, Client, Responder
from headwater.rules.addresses import Address

# One turn of the event loop answers at most this many batches, so that TCP and the admin page have theirs.
BATCHES_PER_TURN: Final = 8
# After a batch of so many more are on their way. To wait a tenth of a millisecond for them, in which the processor is free, makes
# fewer and larger batches, and each costs as much as several answers.
BUSY: Final = 8
GATHER_S: Final = 0.0001
RECEIVE_BUFFER_BYTES: Final = 4 * 2**20

# A client, its region's answers over UDP by whole queries in lower case, its network's counters.
_Known: TypeAlias = tuple[Client, dict[bytes, Remembered], Counts]


@dataclass(slots=True, eq=False)
class Made:
    """A reply that lies whole in memory of its own: its front is empty, and what is written over its query means nothing."""

    size: int
    rest: bytes
    wire: bytes
    head: int = 0


def made(wire: bytes) -> Made:
    return Made(len(wire), REST.pack(0, address_of(wire), len(wire)), wire)


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


class DatagramBatches:
    """One socket, read and answered batch by batch."""

    def __init__(self, responder: Responder, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._responder = responder
        self._socket = sock
        self._loop = loop
        self._batches = Batches(sock, responder.key_bytes)
        self._known_by_address: dict[bytes, _Known] = {}
        self._view = responder.view
        is_ipv4 = sock.family is socket.AF_INET
        first, end = (4, 8) if is_ipv4 else (8, 24)
        self._address_of = IPv4Address if is_ipv4 else IPv6Address
        # Within a socket address: where the address is, and what tells one peer from another.
        size = self._batches.name_bytes
        self._address_row = f"{first}x{end - first}s{NAME_STRIDE - end}x"
        self._peer_row = f"{size}s{NAME_STRIDE - size}x"
        self._key_row = f"{HEAD_AT}x{responder.key_bytes}s"
        # Whether the last batch had one datagram of each of its peers, as batches of resolvers have: they draw a port each time.
        self._alone = False
        loop.add_reader(sock, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(BATCHES_PER_TURN):
            count = self._batches.receive()
            if count is None:
                continue
            if count:
                self._answer(count)
            if count < BUSY:
                return
            if count < BATCH:
                time.sleep(GATHER_S)

    def _answer(self, count: int) -> None:
        view = self._responder.tick()
        if view is not self._view:
            self._view, self._known_by_address = view, {}
        limit = view.limiter.limits.answers or sys.maxsize
        sizes, slots, names = self._batches.messages(count)
        keys = rows(self._key_row, count).unpack(slots.lower())
        addresses = rows(self._address_row, count).unpack(names)
        clients = self._known_by_address
        replies: list[Remembered | Made | None] = []
        add = replies.append
        # Local names and few calls: this loop is what the server does all day.
        for slot, size, key, address in zip(range(count), sizes, keys, addresses, strict=True):
            try:
                _, remembered, counts = clients[address]
                known = remembered[key]
            except KeyError:
                add(self._made(slot, size, address, slots))
                continue
            named = known.named
            given = counts.get(named, 0)
            if known.asked == size and given < limit and (not known.lettered or known.answers(self._wire(slot, size, slots))):
                counts[named] = given + 1
                known.tally.given += 1
                add(known)
            else:
                add(self._made(slot, size, address, slots))
        # What is sent lies where `replies` keep it.
        lost = self._send(replies, names)
        if lost:
            UNSENT.inc(lost)

    def _send(self, replies: list[Remembered | Made | None], names: bytes) -> int:
        """Each to the peer of its slot, those of the same length to the same peer together. Returns how many were lost."""
        batches = self._batches
        batches.write_heads([0 if reply is None else reply.head for reply in replies])
        peers = rows(self._peer_row, len(replies)).unpack(names)
        if self._alone and len(set(peers)) == len(peers) and None not in replies:
            return batches.send_alone([reply.rest for reply in replies if reply is not None])
        runs: dict[tuple[bytes, int], tuple[int, int, Pieces]] = {}
        for slot, reply, peer, begin in zip(range(len(replies)), replies, peers, batches.begins, strict=False):
            if reply is None:
                continue
            size = reply.size
            run = runs.get((peer, size))
            if run is None:
                run = runs[peer, size] = (slot, size, [])
            run[2].extend((begin, reply.rest))
        self._alone = len(runs) == len(replies)
        return batches.send(list(runs.values()))

    def _made(self, slot: int, size: int, address: bytes, slots: bytes) -> Made | None:
        """The reply to what cannot be answered from the folded memory."""
        wire = self._wire(slot, min(size, self._batches.room), slots)
        if size > self._batches.room:
            wire += self._batches.overflow(slot, size)
        reply = self._responder.reply_to(wire, self._known(address)[0], over_tcp=False)
        return None if reply is None else made(reply)

    def _wire(self, slot: int, size: int, slots: bytes) -> bytes:
        begin = slot * self._batches.stride + OFFSET
        return slots[begin : begin + size]

    def _known(self, address: bytes) -> _Known:
        known = self._known_by_address.get(address)
        if known is None:
            if len(self._known_by_address) >= MAX_CLIENTS:
                self._known_by_address.clear()
            client = self._view.client(self._address_of(address))
            known = self._known_by_address[address] = (client, client.over_udp.folded, client.counts)
        return known
