"""The access log: one JSON line a request on stdout. Grants never reach it: whoever reads a log must not be able to watch."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TextIO

from aiohttp import web

from headwater.cacheproxy.exchange import Exchange
from headwater.rules.cachestatus import Outcome
from headwater.runtime.recentlines import ACCESS

FLUSH_EVERY_S: Final = 0.1
LINES_AT_MOST: Final = 512  # held back, some 200 KiB; then they are written whatever the time
GAPS: Final = ("time", "trace_id", "path", "sent_bytes", "first_byte_ms", "duration_ms")  # in the order of the line

_quoted: Final = json.encoder.encode_basestring_ascii


def _encode(value: object) -> str:
    """JSON of one member. Plain values do not need a whole encoder, which costs more than all else of a line."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return _quoted(value)
    return repr(value) if isinstance(value, int | float) else json.dumps(value)


def _encode_line(line: Mapping[str, object]) -> str:
    return "{" + ",".join([f'"{name}":{_encode(value)}' for name, value in line.items()]) + "}\n"


# A line that `line_around` prepared, and what stands in its gaps: (pieces, Unix seconds, trace id, path, bytes sent, seconds
# taken, whether a grant was shown). A plain tuple, because making one costs a fifth of making anything with names.
PlainAnswer = tuple[tuple[str, ...], float, str, str, int, float, bool]


class AccessLog:
    """Lines wait for company, 100 ms at most, and are written in order. Nothing is lost but by the process being killed.

    A reader that went away (a closed pipe) stops the log, not the node. `close` must be called at the end.
    """

    def __init__(self, tier: str, stream: TextIO | None = None) -> None:
        self._tier = tier
        self._stream: TextIO | None = stream if stream is not None else sys.stdout
        # Whoever has no call to spare for each line appends here, and calls `look` after the first and from LINES_AT_MOST on.
        self.waiting: list[str | PlainAnswer] = []
        self.on_plain: Callable[[Sequence[PlainAnswer]], None] | None = None  # is told of all of these at each flush
        self._flush_due: asyncio.TimerHandle | None = None

    def write(self, exchange: Exchange) -> None:
        self.append(_encode_answer(_values(exchange, self._tier)))

    def unreadable(self, node: str) -> Callable[[web.BaseRequest, int, str], None]:
        """Writes the line of a request that could not be parsed: of what came, only its address is known."""

        def write(request: web.BaseRequest, status: int, reason: str) -> None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"time": now, "node": node, "tier": self._tier, "client": request.remote, "status": status}
            self.append(_encode_line({**line, "outcome": Outcome.REFUSED.value, "refusal": reason}))

        return write

    def append(self, line: str) -> None:
        self.waiting.append(line)
        self.look()

    def look(self) -> None:
        """Lets what waits be written soon."""
        if len(self.waiting) >= LINES_AT_MOST:
            self.flush()
        elif self._flush_due is None:
            self._flush_due = asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self.flush)

    def flush(self) -> None:
        """Writes what waits."""
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        lines, self.waiting = self.waiting, []
        if not lines:
            return
        if self.on_plain is not None and (plain := [line for line in lines if not isinstance(line, str)]):
            self.on_plain(plain)
        text = "".join(map(_text, lines))
        ACCESS.add(text, len(lines))
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None

    close = flush

    def line_around(self, known: Mapping[str, object]) -> tuple[str, ...]:
        """The line of a plain answer with the values of `known` and null elsewhere, cut where each of GAPS is to stand."""
        text, pieces = "{", []
        for name in _NAMES:
            text += f'"{name}":'
            if name in GAPS:
                pieces.append(text)
                text = ""
            else:
                text += _encode(self._tier if name == "tier" else known.get(name))
            text += ","
        return (*pieces, text[:-1] + "}\n")


def _text(line: str | PlainAnswer) -> str:
    if isinstance(line, str):
        return line
    (
        (until_time, until_trace, until_path, until_bytes, until_first, until_taken, rest),
        now,
        trace_id,
        path,
        sent_bytes,
        taken_s,
        _,
    ) = line
    taken_ms = "%.3f" % (taken_s * 1e3)
    return (
        f'{until_time}"{_time_text(now)}"{until_trace}"{trace_id}"'
        f'{until_path}"{path}"'
        f"{until_bytes}{sent_bytes}{until_first}{taken_ms}{until_taken}{taken_ms}{rest}"
    )


def _time_text(now: float) -> str:
    """Unix seconds as ISO 8601 with milliseconds."""
    return _millisecond_text(int(now * 1000))


@lru_cache(maxsize=256)
def _millisecond_text(millisecond: int) -> str:
    second = millisecond // 1000
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{millisecond - second * 1000:03d}+00:00"


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


_ANSWER: Final = "{" + ",".join(f'"{name}":%s' for name in _NAMES) + "}\n"


def _encode_answer(values: tuple[object, ...]) -> str:
    """The line of _NAMES with these values, which are plain: as `_encode` of each, without a call for each."""
    return _ANSWER % tuple(
        ["null" if value is None else _quoted(value) if isinstance(value, str) else repr(value) for value in values]
    )


def _values(exchange: Exchange, tier: str) -> tuple[object, ...]:
    """What the access log says of an answer, in the order of _NAMES."""
    headers = exchange.request.headers
    return (
        _time_text(exchange.now),
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
