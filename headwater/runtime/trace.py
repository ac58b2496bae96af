"""One trace id through all tiers: the W3C Trace Context header `traceparent`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

TRACEPARENT = "traceparent"
_AT_ONCE = 256  # asking the system for random bytes costs more than using them
_DRAWN: list[tuple[str, str]] = []
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\Z")


@dataclass(frozen=True, slots=True)
class Trace:
    """`trace_id` is the same in every tier, `span_id` is this hop's own."""

    trace_id: str
    span_id: str

    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


def continue_trace(received: str | None) -> Trace:
    """This hop's place in the trace that the header names, or in a new one."""
    match = _TRACEPARENT.match(received) if received else None
    trace_id, span_id = new_trace()
    return Trace(match[1] if match and match[1] != "0" * 32 else trace_id, span_id)


def new_traces() -> list[tuple[str, bytes]]:
    """Many a random (trace id, `traceparent` with it)."""
    traces = [new_trace() for _ in range(_AT_ONCE)]
    return [(trace_id, f"00-{trace_id}-{span_id}-01".encode()) for trace_id, span_id in traces]


def new_trace() -> tuple[str, str]:
    """A random (trace id, span id)."""
    if not _DRAWN:
        drawn = os.urandom(24 * _AT_ONCE).hex()
        _DRAWN.extend((drawn[at : at + 32], drawn[at + 32 : at + 48]) for at in range(0, len(drawn), 48))
    return _DRAWN.pop()
