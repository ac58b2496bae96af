"""Answers remembered within one snapshot: same question from the same region by the same transport, same answer. Pure.

A query is known by its bytes behind the id, with the letters of its name in lower case. The name is what stands before the
first zero byte behind the header (or a part of it: labels may hold zero bytes), and length bytes are no letters, so two queries
that are equal then differ in the case of their names alone. Whoever asks gets the question back in the case that they wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dnssteer.answer import Reply

ID_BYTES: Final = 2
NAME_AT: Final = 12
HEADER_BEHIND_ID_BYTES: Final = NAME_AT - ID_BYTES
# 4096 buckets, a few types and client subnets; about 500 bytes each.
MAX_REMEMBERED: Final = 65_536


@dataclass(slots=True)
class Remembered:
    """`tail` is the reply behind the id, `size` its length; `named` the name that rate limiting counts it under; `given` how
    often it was given since that was last counted into the metrics."""

    reply: Reply
    tail: bytes
    size: int
    named: bytes
    given: int = 0


class Memory:
    """The answers for one region and transport. The oldest make room."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, Remembered] = {}

    def put(self, wire: bytes, reply: Reply) -> Remembered:
        assert reply.wire is not None
        if len(self.by_key) >= MAX_REMEMBERED:
            del self.by_key[next(iter(self.by_key))]
        key = lowered(wire)
        # The remembered form has the question in lower case, as its key has.
        tail = (
            reply.wire[ID_BYTES:NAME_AT]
            + key[NAME_AT - ID_BYTES :][: _name_bytes(wire)]
            + reply.wire[NAME_AT + _name_bytes(wire) :]
        )
        known = self.by_key[key] = Remembered(reply, tail, len(tail), reply.named)
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
