"""The access log: one JSON line a request on stdout. Grants never reach it: whoever reads a log must not be able to watch."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

from aiohttp import web

from headwater.cacheproxy.exchange import Exchange
from headwater.rules.cachestatus import Outcome

FLUSH_EVERY_S: Final = 0.1
LINES_AT_MOST: Final = 512  # held back, some 200 KiB; then they are written whatever the time

_quoted: Final = json.encoder.encode_basestring_ascii


def _encode(value: object) -> str:
    """JSON of one member. Plain values do not need a whole encoder, which costs more than all else of a line."""
    if value is None:
        return "null"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _encode_line(line: Mapping[str, object]) -> str:
    return "{" + ",".join([f'"{name}":{_encode(value)}' for name, value in line.items()]) + "}\n"


class AccessLog:
    """Lines are written through at once; those that may wait for company (`append`) go with them, in order, or after 100 ms.

    A reader that went away (a closed pipe) stops the log, not the node.
    """

    def __init__(self, tier: str, stream: TextIO | None = None) -> None:
        self._tier = tier
        self._stream: TextIO | None = stream if stream is not None else sys.stdout
        self._waiting: list[str] = []
        self._flush_due: asyncio.TimerHandle | None = None

    def write(self, exchange: Exchange) -> None:
        self._write(_line(exchange, self._tier))

    def unreadable(self, node: str) -> Callable[[web.BaseRequest, int, str], None]:
        """Writes the line of a request that could not be parsed: of what came, only its address is known."""

        def write(request: web.BaseRequest, status: int, reason: str) -> None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"time": now, "node": node, "tier": self._tier, "client": request.remote, "status": status}
            self._write({**line, "outcome": Outcome.REFUSED.value, "refusal": reason})

        return write

    def append(self, line: str) -> None:
        """Takes a line that `line_template` made, with its newline. Nothing is lost but by the process being killed."""
        self._waiting.append(line)
        if len(self._waiting) >= LINES_AT_MOST:
            self.flush()
        elif self._flush_due is None:
            self._flush_due = asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self.flush)

    def flush(self) -> None:
        """Writes what waits; to be called once more at the end."""
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        lines, self._waiting = self._waiting, []
        if self._stream is None or not lines:
            return
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None

    def _write(self, line: dict[str, object]) -> None:
        self._waiting.append(_encode_line(line))
        self.flush()

    def line_template(self, known: Mapping[str, object], open_names: frozenset[str]) -> str:
        """A line with the values of `known`, null elsewhere, and `%(name)s` for each open name, to be filled with JSON."""
        members = []
        for name in _NAMES:
            value = self._tier if name == "tier" else known.get(name)
            members.append(f'"{name}":' + (f"%({name})s" if name in open_names else _encode(value).replace("%", "%%")))
        return "{" + ",".join(members) + "}\n"


_NAMES: Final = (
    "time",
    "node",
    "tier",
    "trace_id",
    "client",
    "method",
    "host",
    "path",
    "range",
    "status",
    "outcome",
    "parent",
    "refusal",
    "cut_off",
    "asker",
    "session",
    "sent_bytes",
    "first_byte_ms",
    "duration_ms",
    "user_agent",
)


def _line(exchange: Exchange, tier: str) -> dict[str, object]:
    headers = exchange.request.headers
    values = (
        datetime.fromtimestamp(exchange.now, UTC).isoformat(timespec="milliseconds"),
        exchange.node,
        tier,
        exchange.trace.trace_id,
        str(exchange.client),
        exchange.method,
        headers.get("Host"),
        exchange.passage.path if exchange.passage else None,
        headers.get("Range"),
        exchange.status,
        exchange.outcome.value,
        exchange.parent,
        exchange.refusal,
        exchange.cut_off,
        exchange.passage.asker if exchange.passage else None,
        exchange.passage.session if exchange.passage else None,
        exchange.sent_bytes,
        None if exchange.first_byte_s is None else round(exchange.first_byte_s * 1000, 3),
        round((time.perf_counter() - exchange.started) * 1000, 3),
        headers.get("User-Agent"),
    )
    return dict(zip(_NAMES, values, strict=True))
