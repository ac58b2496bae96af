"""Recorded traffic as a trace: a node's own access log (JSON lines), or any CSV with a line of names.

A log line counts when it is an answer of 200 or 206 to GET that a store could have kept; an object weighs the most that one
answer of it sent, because a log does not say how long an object is of which only parts were asked for. A CSV has columns for the
object (`object`, `obj`, `id`, `key` or `lbn`) and its bytes (`bytes` or `size`), in the order of time.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, TextIO

from bench.eviction.traces import Request, Trace

OBJECT: Final = ("object", "obj", "id", "key", "lbn")
BYTES: Final = ("bytes", "size")


class UnreadableTrace(ValueError):
    """The message says which line, and what would do."""


def recorded(file: Path, most: int) -> Trace:
    """The first `most` requests of a recording. Raises UnreadableTrace or OSError."""
    with file.open(newline="") as stream:
        first = stream.read(1)
        stream.seek(0)
        asked = list(islice(_of_log(stream) if first == "{" else _of_table(stream), most))
    if not asked:
        raise UnreadableTrace(f"{file} has no request that a store could have kept")
    return Trace(file.stem, "recorded", _numbered(asked))


def _of_log(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if entry.get("method") == "GET" and entry.get("status") in (200, 206) and entry.get("sent_bytes"):
                yield f"{entry['host']}{entry['path']}", int(entry["sent_bytes"])
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise UnreadableTrace(f"line {number} is no line of an access log: {error}") from error


def _of_table(stream: TextIO) -> Iterator[tuple[str, int]]:
    table = csv.DictReader(stream)
    names = table.fieldnames or []
    found, size = (next((name for name in known if name in names), None) for known in (OBJECT, BYTES))
    if found is None or size is None:
        raise UnreadableTrace(f"the first line must name a column of {OBJECT} and one of {BYTES}, not only {', '.join(names)}")
    for number, row in enumerate(table, 2):
        try:
            yield row[found], int(row[size])
        except (ValueError, TypeError) as error:
            raise UnreadableTrace(f"line {number}: {size} is no number of bytes: {error}") from error


def _numbered(asked: list[tuple[str, int]]) -> list[Request]:
    """Objects by number, each with one size throughout."""
    largest: dict[str, int] = {}
    for name, size in asked:
        largest[name] = max(size, largest.get(name, 0))
    number = {name: at for at, name in enumerate(largest, 1)}
    return [(number[name], largest[name], 0, 0) for name, _ in asked]
