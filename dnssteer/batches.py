"""Datagrams of a Linux socket, many by one system call: `recvmmsg` and `sendmmsg`, and replies to one peer as segments of one
message (UDP_SEGMENT, Linux 4.18), because the way of each message through the kernel costs more than its answer.

A reply is two pieces: a front, written over the query that it answers, and a rest that lies in memory already. Nothing is copied.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Final

BATCH: Final = 128
# A message begins where its bytes 2 to 9 (flags and three counts) are one aligned word, the second one of its slot.
OFFSET: Final = 6
HEAD_AT: Final = 8
CACHE_LINE_BYTES: Final = 64
# What is longer than its slot flows over into a buffer of its own; together they are longer than any query.
OVERFLOW_BYTES: Final = 4096
NAME_STRIDE: Final = 32
NAME_BYTES: Final = 28  # sockaddr_in6
SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
MAX_SEGMENTS: Final = 64
MAX_MESSAGE_BYTES: Final = 65_000
MSG_DONTWAIT: Final = 0x40

_HEADER: Final = struct.Struct("=QI4xQQQQi4xI4x")  # mmsghdr of 64-bit Linux
_CONTROL: Final = struct.Struct("=QiiH6x")  # cmsghdr and the segments' size
_CONTROL_BYTES: Final = 18  # without its padding
_WORDS: Final = _HEADER.size // 8
_LOW_HALF: Final = 0 if sys.byteorder == "little" else 32  # of a word that begins with the four bytes of a length

# Of one reply after the other, all of the same size: where its front is; how long that is, where its rest is, how long that is.
# They are packed when they become known, so that a batch is only put together.
Pieces = list[bytes]
AT: Final = struct.Struct("=Q")
REST: Final = struct.Struct("=3Q")
_PIECES: Final = 2
_VECTORS_BYTES: Final = AT.size + REST.size


@cache
def rows(form: str, count: int) -> struct.Struct:
    """`count` times the same row, to be taken apart by one call."""
    return struct.Struct(f"={form * count}")


def key_bytes_for(message_bytes: int) -> int:
    """What a slot for messages of at least this length holds behind the id."""
    return -(-(OFFSET + message_bytes) // CACHE_LINE_BYTES) * CACHE_LINE_BYTES - HEAD_AT


class Batches:
    """The buffers of one socket. A batch is received, answered and sent before the next one.

    Each message has a slot with `key_bytes` behind its id; short slots are quickly searched. Behind the message are zeros.
    """

    def __init__(self, sock: socket.socket, key_bytes: int) -> None:
        self._descriptor = sock.fileno()
        libc = ctypes.CDLL(None, use_errno=True)
        self._receive, self._send = libc.recvmmsg, libc.sendmmsg
        self._receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        self._send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
        self.name_bytes = 16 if sock.family is socket.AF_INET else NAME_BYTES
        self.stride = HEAD_AT + key_bytes
        self.room = self.stride - OFFSET
        self._slots, self._overflows = _bytes(BATCH * self.stride), _bytes(BATCH * OVERFLOW_BYTES)
        self._names = _bytes(BATCH * NAME_STRIDE)
        self._headers, self._vectors = _bytes(BATCH * _HEADER.size), _bytes(BATCH * 32)
        self._sent_headers, self._sent_vectors = (ctypes.c_uint64 * (BATCH * _WORDS))(), _bytes(BATCH * _VECTORS_BYTES)
        self._sent_headers_at = ctypes.addressof(self._sent_headers)
        self._sent_vectors_at = ctypes.addressof(self._sent_vectors)
        self._sent_header_view = memoryview(self._sent_headers).cast("B").cast("Q")
        self._sent_vector_view = memoryview(self._sent_vectors).cast("B")
        self._controls = _bytes(BATCH * _CONTROL.size)
        self._controls_at = ctypes.addressof(self._controls)
        slots, overflows, names, vectors = map(ctypes.addressof, (self._slots, self._overflows, self._names, self._vectors))
        self._names_at = [names + at * NAME_STRIDE for at in range(BATCH)]
        for at in range(BATCH):
            begin, overflow = slots + at * self.stride + OFFSET, overflows + at * OVERFLOW_BYTES
            struct.pack_into("=4Q", self._vectors, at * 32, begin, self.room, overflow, OVERFLOW_BYTES)
            _HEADER.pack_into(self._headers, at * _HEADER.size, self._names_at[at], NAME_BYTES, vectors + at * 32, 2, 0, 0, 0, 0)
        self.begins = [AT.pack(slots + at * self.stride + OFFSET) for at in range(BATCH)]
        """The address of each slot's message."""
        self._alone = [part for begin in self.begins for part in (begin, b"")]
        self._prepare_headers_alone()
        self._header_view = memoryview(self._headers).cast("B")
        self._fresh_headers, self._fresh_slots = bytes(self._header_view), bytes(BATCH * self.stride)
        words = _HEADER.size // 4
        self._sizes = self._header_view.cast("I")[words - 2 :: words]
        self._slot_view, self._name_view = memoryview(self._slots).cast("B"), memoryview(self._names).cast("B")
        self._heads = self._slot_view.cast("Q")[HEAD_AT // 8 :: self.stride // 8]
        self._segments = _has_segments(sock)

    def _prepare_headers_alone(self) -> None:
        """Of replies that go to a peer each, the reply of slot i to the peer of slot i: these headers never change."""
        self._headers_alone = _bytes(BATCH * _HEADER.size)
        self._headers_alone_at = ctypes.addressof(self._headers_alone)
        for at in range(BATCH):
            vectors = self._sent_vectors_at + at * _VECTORS_BYTES
            place = (self._names_at[at], self.name_bytes, vectors, _PIECES)
            _HEADER.pack_into(self._headers_alone, at * _HEADER.size, *place, 0, 0, 0, 0)

    def receive(self) -> int | None:
        """How many datagrams came; 0 for none; None for an error of an earlier reply, which the kernel has forgotten now."""
        self._header_view[:] = self._fresh_headers
        self._slot_view[:] = self._fresh_slots
        count = int(self._receive(self._descriptor, ctypes.addressof(self._headers), BATCH, MSG_DONTWAIT, None))
        if count >= 0:
            return count
        return 0 if ctypes.get_errno() in (errno.EAGAIN, errno.EWOULDBLOCK) else None

    def messages(self, count: int) -> tuple[list[int], bytes, bytes]:
        """(sizes, slots, names): message i is at `slots[i * stride + OFFSET:]`, its peer's socket address at NAME_STRIDE * i."""
        slots, names = self._slot_view[: count * self.stride], self._name_view[: count * NAME_STRIDE]
        return self._sizes[:count].tolist(), slots.tobytes(), names.tobytes()

    def overflow(self, slot: int, size: int) -> bytes:
        """What did not fit into the slot of a message of `size` bytes."""
        begin = slot * OVERFLOW_BYTES
        return bytes(memoryview(self._overflows).cast("B")[begin : begin + size - self.room])

    def write_heads(self, heads: Sequence[int]) -> None:
        """Writes bytes 2 to 9 of the first messages, each as a number in this machine's order, over what they had there."""
        self._heads[: len(heads)] = array("Q", heads)

    def send_alone(self, rests: list[bytes]) -> int:
        """Sends for each of the first messages its front and a rest to its peer. Returns as `send` does."""
        pieces = self._alone[: len(rests) * _PIECES]
        pieces[1::2] = rests
        packed = b"".join(pieces)
        self._sent_vector_view[: len(packed)] = packed
        return self._send_headers(self._headers_alone_at, [1] * len(rests))

    def send(self, runs: list[tuple[int, int, Pieces]]) -> int:
        """Sends runs of (a slot of the peer, bytes of each reply, pieces); returns how many replies could not be sent (no buffer,
        no route): their clients will ask again."""
        headers: list[int] = []
        vectors: Pieces = []
        replies: list[int] = []
        name_word = self.name_bytes << _LOW_HALF
        for slot, size, pieces in runs:
            name, whole = self._names_at[slot], len(pieces)
            together = _PIECES * (min(MAX_SEGMENTS, MAX_MESSAGE_BYTES // size) if self._segments and whole > _PIECES else 1)
            for first in range(0, whole, together):
                at = self._sent_vectors_at + len(vectors) // _PIECES * _VECTORS_BYTES
                part = pieces[first : first + together]
                count = len(part) // _PIECES
                control = (0, 0) if count == 1 else self._segmented(len(replies), size)
                headers += (name, name_word, at, count * 2, *control, 0, 0)
                vectors += part
                replies.append(count)
        self._sent_header_view[: len(headers)] = array("Q", headers)
        packed = b"".join(vectors)
        self._sent_vector_view[: len(packed)] = packed
        return self._send_headers(self._sent_headers_at, replies)

    def _segmented(self, number: int, size: int) -> tuple[int, int]:
        """Where the control message is that cuts message `number` into segments of `size` bytes; its length."""
        _CONTROL.pack_into(self._controls, number * _CONTROL.size, _CONTROL_BYTES, SOL_UDP, UDP_SEGMENT, size)
        return self._controls_at + number * _CONTROL.size, _CONTROL_BYTES

    def _send_headers(self, headers_at: int, replies: list[int]) -> int:
        start, lost = 0, 0
        while start < len(replies):
            sent = self._send(self._descriptor, headers_at + start * _HEADER.size, len(replies) - start, MSG_DONTWAIT)
            if sent <= 0:
                if replies[start] > 1 and ctypes.get_errno() in (errno.EINVAL, errno.EIO, errno.EOPNOTSUPP):
                    # This route takes no segments (a device without checksums, a smaller MTU): from now on, one by one.
                    self._segments = False
                lost += replies[start]
                sent = 1
            start += sent
        return lost


def _bytes(size: int) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * size)()


def _has_segments(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True
