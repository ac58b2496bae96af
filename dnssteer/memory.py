"""Answers remembered within one snapshot: same question from the same region by the same transport, same answer. Pure.

A query is known by its bytes behind the id, with the letters of its name in lower case. The name is what stands before the
first zero byte behind the header (or a part of it: labels may hold zero bytes), and length bytes are no letters, so two queries
that are equal then differ in the case of their names alone. Whoever asks gets the question back in the case that they wrote.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Final

from dnssteer.answer import Reply
from dnssteer.batches import REST

ID_BYTES: Final = 2
NAME_AT: Final = 12
HEADER_BEHIND_ID_BYTES: Final = NAME_AT - ID_BYTES
# 4096 buckets, a few types and client subnets; about 500 bytes each.
MAX_REMEMBERED: Final = 65_536


@dataclass(slots=True, eq=False)
class Remembered:
    """`tail` is the reply behind the id, `size` its length; `named` the name that rate limiting counts it under; `given` how
    often it was given since that was last counted into the metrics.

    For replies that are written over their query: `key` is the query's; `head` the reply's bytes 2 to 9 as a number in this
    machine's order; `front` how many bytes are then the query's; `rest` that, and where what follows is in `tail`, packed.
    `lettered` says that other queries in the same lower case may mean something else.
    """

    reply: Reply
    tail: bytes
    size: int
    named: bytes
    key: bytes
    front: int
    head: int
    rest: bytes
    lettered: bool
    given: int = 0

    def answers(self, behind_id: bytes) -> bool:
        """Whether this query is the same but for the case of its name."""
        end = self.front - ID_BYTES
        mine, head_bytes = self.key, HEADER_BEHIND_ID_BYTES
        return (
            behind_id[end:] == mine[end:]
            and behind_id[:head_bytes] == mine[:head_bytes]
            and behind_id[head_bytes:end].lower() == mine[head_bytes:end]
        )


def remembered(key: bytes, tail: bytes, reply: Reply) -> Remembered:
    front = NAME_AT + _name_bytes(bytes(ID_BYTES) + key)
    rest = front - ID_BYTES
    outside = key[:HEADER_BEHIND_ID_BYTES] + key[rest:]
    return Remembered(
        reply,
        tail,
        len(tail),
        reply.named,
        key,
        front,
        int.from_bytes(tail[:8], sys.byteorder),
        REST.pack(front, address_of(tail) + rest, len(tail) - rest),
        lettered=outside != outside.lower() or outside != outside.upper(),
    )


def address_of(kept: bytes) -> int:
    """Where the bytes are, as long as somebody keeps them."""
    address = ctypes.cast(ctypes.c_char_p(kept), ctypes.c_void_p).value
    assert address is not None
    return address


class Memory:
    """The answers for one region and transport. The oldest make room."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, Remembered] = {}
        self.folded: dict[bytes, Remembered] = {}
        """By the whole key in lower case, those whose reply can be written over its query: one step for all cases of a name."""

    def put(self, wire: bytes, reply: Reply) -> Remembered:
        assert reply.wire is not None
        if len(self.by_key) >= MAX_REMEMBERED:
            oldest = self.by_key.pop(next(iter(self.by_key)))
            if self.folded.get(oldest.key.lower()) is oldest:
                del self.folded[oldest.key.lower()]
        key = lowered(wire)
        # The remembered form has the question in lower case, as its key has.
        tail = (
            reply.wire[ID_BYTES:NAME_AT]
            + key[NAME_AT - ID_BYTES :][: _name_bytes(wire)]
            + reply.wire[NAME_AT + _name_bytes(wire) :]
        )
        known = self.by_key[key] = remembered(key, tail, reply)
        if tail[8:HEADER_BEHIND_ID_BYTES] == key[8:HEADER_BEHIND_ID_BYTES]:
            # Both have the same number of additional records, the only part of the header that is not written.
            self.folded[key.lower()] = known
        return known

    def in_another_case(self, wire: bytes) -> tuple[Remembered, bytes] | None:
        """(what is known of this query in lower case, its tail with the question as `wire` has it)."""
        known = self.by_key.get(lowered(wire))
        if known is None:
            return None
        end = NAME_AT + _name_bytes(wire)
        return known, known.tail[: NAME_AT - ID_BYTES] + wire[NAME_AT:end] + known.tail[end - ID_BYTES :]


def lowered(wire: bytes) -> bytes:
    """The key of a query."""
    end = NAME_AT + _name_bytes(wire)
    return wire[ID_BYTES:NAME_AT] + wire[NAME_AT:end].lower() + wire[end:]


def _name_bytes(wire: bytes) -> int:
    end = wire.find(b"\x00", NAME_AT)
    return max(end - NAME_AT, 0)
