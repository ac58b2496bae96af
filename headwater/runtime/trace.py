"""One trace id through all tiers: the W3C Trace Context header `traceparent`."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

TRACEPARENT = "traceparent"
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
    trace_id = match[1] if match and match[1] != "0" * 32 else secrets.token_hex(16)
    return Trace(trace_id, secrets.token_hex(8))
