"""Answers remembered within one snapshot: same question from the same region by the same transport, same answer. Pure.

A query is known by its bytes behind the id, with the letters of its name in lower case. The name is what stands before the
first zero byte behind the header (or a part of it: labels may hold zero bytes), and length bytes are no letters, so two queries
that are equal then differ in the case of their names alone. Whoever asks gets the question back in the case that they wrote.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from dnssteer.answer import Reply
from dnssteer.batches import REST

ID_BYTES: Final = 2
NAME_AT: Final = 12
HEADER_BEHIND_ID_BYTES: Final = NAME_AT - ID_BYTES
# 4096 buckets, a few types and client subnets; about 500 bytes each.
MAX_REMEMBERED: Final = 65_536
# Answers that name the same edges share what follows the question; signed ones share nothing.
MAX_SHARED: Final = 4096


@dataclass(slots=True, eq=False)
class Tally:
    """How often answers of one kind were given since that was last counted into the metrics. `reply` has no wire and no name."""

    reply: Reply
    given: int = 0


@dataclass(slots=True, eq=False)
class Remembered:
    """`size` is the reply's length, `asked` its query's; `named` the name that rate limiting counts it under; `tail` the reply
    behind the id.

    For replies that are written over their query: `head` is the reply's bytes 2 to 9 as a number in this machine's order; then
    `front` bytes are the query's, and what follows is `behind`, which `rest` says packed; `key` is the query's. `lettered`
    says that other queries in the same lower case may mean something else.

    What a batch reads of it stands first, and is shared with other answers where it is the same: fetching it from memory costs
    more than all the rest.
    """

    named: bytes
    size: int
    asked: int
    lettered: bool
    tally: Tally
    head: int
    rest: bytes
    behind: bytes
    key: bytes
    front: int
    tail: bytes

    def answers(self, wire: bytes) -> bool:
        """Whether this query is the same but for the case of its name, given that in lower case all of it is."""
        end, mine = self.front, self.key
        return wire[end:] == mine[end - ID_BYTES :] and wire[ID_BYTES:NAME_AT] == mine[:HEADER_BEHIND_ID_BYTES]


def address_of(kept: bytes) -> int:
    """Where the bytes are, as long as somebody keeps them."""
    address = ctypes.cast(ctypes.c_char_p(kept), ctypes.c_void_p).value
    assert address is not None
    return address


class Memory:
    """The answers for one region and transport. The oldest make room."""

    def __init__(self, key_bytes: int = 0) -> None:
        self._key_bytes = key_bytes
        self._tallies: dict[Reply, Tally] = {}
        self._heads: dict[bytes, int] = {}
        self._shared: dict[bytes, bytes] = {}
        self.by_key: dict[bytes, Remembered] = {}
        self.folded: dict[bytes, Remembered] = {}
        """By the whole key in lower case with zeros behind it, `key_bytes` in all: those that are no longer, and whose reply can
        be written over its query. One step for all cases of a name."""

    def put(self, wire: bytes, reply: Reply) -> Remembered:
        assert reply.wire is not None
        if len(self.by_key) >= MAX_REMEMBERED:
            oldest = self.by_key.pop(next(iter(self.by_key)))
            if self.folded.get(self._fold(oldest.key)) is oldest:
                del self.folded[self._fold(oldest.key)]
        key = lowered(wire)
        # The remembered form has the question in lower case, as its key has.
        tail = (
            reply.wire[ID_BYTES:NAME_AT]
            + key[NAME_AT - ID_BYTES :][: _name_bytes(wire)]
            + reply.wire[NAME_AT + _name_bytes(wire) :]
        )
        known = self.by_key[key] = self._remembered(key, tail, reply)
        if len(key) <= self._key_bytes and tail[8:HEADER_BEHIND_ID_BYTES] == key[8:HEADER_BEHIND_ID_BYTES]:
            # Both have the same number of additional records, the only part of the header that is not written.
            self.folded[self._fold(key)] = known
        return known

    def _remembered(self, key: bytes, tail: bytes, reply: Reply) -> Remembered:
        front = NAME_AT + _name_bytes(bytes(ID_BYTES) + key)
        outside = key[:HEADER_BEHIND_ID_BYTES] + key[front - ID_BYTES :]
        if len(self._shared) >= MAX_SHARED:
            self._shared.clear()
        behind = self._shared.setdefault(tail[front - ID_BYTES :], tail[front - ID_BYTES :])
        rest = REST.pack(front, address_of(behind), len(behind))
        head = tail[:8]
        return Remembered(
            named=reply.named,
            size=ID_BYTES + len(tail),
            asked=ID_BYTES + len(key),
            lettered=outside != outside.lower() or outside != outside.upper(),
            tally=self._tally(reply),
            head=self._heads.setdefault(head, int.from_bytes(head, sys.byteorder)),
            rest=self._shared.setdefault(rest, rest),
            behind=behind,
            key=key,
            front=front,
            tail=tail,
        )

    def _tally(self, reply: Reply) -> Tally:
        kind = replace(reply, wire=None, named=b"")
        return self._tallies.setdefault(kind, Tally(kind))

    def _fold(self, key: bytes) -> bytes:
        return key.lower().ljust(self._key_bytes, b"\x00")

    def tallies(self) -> Iterable[Tally]:
        """By kind of answer."""
        return self._tallies.values()

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
