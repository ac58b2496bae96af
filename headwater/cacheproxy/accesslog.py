"""The access log: one JSON line a request on stdout. Grants never reach it: whoever reads a log must not be able to watch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from aiohttp import web

from headwater.cacheproxy.exchange import Exchange
from headwater.rules.cachestatus import Outcome


class AccessLog:
    """Lines are written through at once; a reader that went away (a closed pipe) stops the log, not the node."""

    def __init__(self, tier: str, stream: TextIO | None = None) -> None:
        self._tier = tier
        self._stream: TextIO | None = stream if stream is not None else sys.stdout

    def write(self, exchange: Exchange) -> None:
        self._write(_line(exchange, self._tier))

    def unreadable(self, node: str) -> Callable[[web.BaseRequest, int, str], None]:
        """Writes the line of a request that could not be parsed: of what came, only its address is known."""

        def write(request: web.BaseRequest, status: int, reason: str) -> None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"time": now, "node": node, "tier": self._tier, "client": request.remote, "status": status}
            self._write({**line, "outcome": Outcome.REFUSED.value, "refusal": reason})

        return write

    def _write(self, line: dict[str, object]) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def _line(exchange: Exchange, tier: str) -> dict[str, object]:
    headers = exchange.request.headers
    return {
        "time": datetime.fromtimestamp(exchange.now, UTC).isoformat(timespec="milliseconds"),
        "node": exchange.node,
        "tier": tier,
        "trace_id": exchange.trace.trace_id,
        "client": str(exchange.client),
        "method": exchange.method,
        "host": headers.get("Host"),
        "path": exchange.passage.path if exchange.passage else None,
        "range": headers.get("Range"),
        "status": exchange.status,
        "outcome": exchange.outcome.value,
        "parent": exchange.parent,
        "refusal": exchange.refusal,
        "cut_off": exchange.cut_off,
        "asker": exchange.passage.asker if exchange.passage else None,
        "session": exchange.passage.session if exchange.passage else None,
        "sent_bytes": exchange.sent_bytes,
        "first_byte_ms": None if exchange.first_byte_s is None else round(exchange.first_byte_s * 1000, 3),
        "duration_ms": round((time.perf_counter() - exchange.started) * 1000, 3),
        "user_agent": headers.get("User-Agent"),
    }
