"""UDP for a responder: on Linux many datagrams by one system call each way, elsewhere one by one.

Most of what a remembered answer costs is the way through the interpreter and the kernel, so a batch is answered in one plain
loop, in the buffers that it arrived in (dnssteer/batches.py).
"""

from __future__ import annotations

import asyncio
import socket
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol, TypeAlias, cast

from dnssteer.batches import AT, BATCH, NAME_STRIDE, OFFSET, REST, SLOT_BYTES, STRIDE, Batches, Pieces
from dnssteer.memory import ID_BYTES, Remembered, address_of
from dnssteer.metrics import UNSENT
from dnssteer.ratelimit import Counts
from dnssteer.responder import MAX_CLIENTS, Client, Responder
from headwater.rules.addresses import Address

# One turn of the event loop answers at most this many batches, so that TCP and the admin page have theirs.
BATCHES_PER_TURN: Final = 16
RECEIVE_BUFFER_BYTES: Final = 4 * 2**20

# A client, its region's answers over UDP by whole queries in lower case, its network's counters.
_Known: TypeAlias = tuple[Client, dict[bytes, Remembered], Counts]
# Of one socket of a client in one batch: what is known of the client, its first slot, its replies by their size.
_Peer: TypeAlias = tuple[Client, dict[bytes, Remembered], Counts, int, dict[int, Pieces]]


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
        self._batches = Batches(sock)
        self._known_by_address: dict[bytes, _Known] = {}
        self._view = responder.view
        is_ipv4 = sock.family is socket.AF_INET
        # Where the address is in a socket address.
        self._address_first, self._address_end = (4, 8) if is_ipv4 else (8, 24)
        self._address_of = IPv4Address if is_ipv4 else IPv6Address
        # Of each slot: its number, its message's address, where that begins and its id ends, its first word, its peer's name.
        self._places = [
            (
                slot,
                AT.pack(self._batches.begins[slot]),
                slot * STRIDE + OFFSET,
                slot * STRIDE + OFFSET + ID_BYTES,
                (slot * STRIDE + OFFSET + ID_BYTES) // 8,
                slot * NAME_STRIDE,
                slot * NAME_STRIDE + self._batches.name_bytes,
            )
            for slot in range(BATCH)
        ]
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
            if count < BATCH:
                return

    def _answer(self, count: int) -> None:
        responder, words = self._responder, self._batches.words
        view = responder.tick()
        if view is not self._view:
            self._view, self._known_by_address = view, {}
        limit = view.limiter.limits.answers or sys.maxsize
        sizes, slots, names = self._batches.messages(count)
        peers: dict[bytes, _Peer] = {}
        # What is sent lies at an address: whatever it belongs to has to live until then.
        kept: list[Remembered | bytes] = []
        keep = kept.append
        # Local names and few calls: this loop is what the server does all day.
        for size, (slot, at, begin, behind_id, word, name, name_end) in zip(sizes, self._places, strict=False):
            peer = names[name:name_end]
            found = peers.get(peer)
            if found is None:
                found = peers[peer] = (*self._known(peer[self._address_first : self._address_end]), slot, {})
            client, remembered, counts, _, replies = found
            known = remembered.get(slots[behind_id : begin + size].lower())
            if (
                known is not None
                and counts.get(known.named, 0) < limit
                and (not known.lettered or known.answers(slots[behind_id : begin + size]))
            ):
                named = known.named
                counts[named] = counts.get(named, 0) + 1
                known.given += 1
                keep(known)
                words[word] = known.head
                pieces = replies.get(known.size)
                if pieces is None:
                    pieces = replies[known.size] = []
                pieces += (at, known.rest)
                continue
            wire = slots[begin : begin + min(size, SLOT_BYTES)]
            if size > SLOT_BYTES:
                wire += self._batches.overflow(slot, size)
            reply = responder.reply_to(wire, client, over_tcp=False)
            if reply is not None:
                keep(reply)
                replies.setdefault(len(reply) - ID_BYTES, []).extend(
                    (AT.pack(address_of(reply)), REST.pack(len(reply), address_of(reply), 0))
                )
        runs = [(slot, size + ID_BYTES, pieces) for _, _, _, slot, replies in peers.values() for size, pieces in replies.items()]
        lost = self._batches.send(runs)
        if lost:
            UNSENT.inc(lost)

    def _known(self, address: bytes) -> _Known:
        known = self._known_by_address.get(address)
        if known is None:
            if len(self._known_by_address) >= MAX_CLIENTS:
                self._known_by_address.clear()
            client = self._view.client(self._address_of(address))
            known = self._known_by_address[address] = (client, client.over_udp.folded, client.counts)
        return known
