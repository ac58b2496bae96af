"""Recorded traffic becomes a trace, whatever wrote it down."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from bench.eviction.recorded import UnreadableTrace, recorded
from headwater.cacheproxy.front.accesslog import AccessLog


def line(path: str, sent: int, **other: object) -> str:
    entry = {"method": "GET", "host": "v000.cdn.test", "path": path, "status": 200, "sent_bytes": sent}
    return json.dumps(entry | other) + "\n"


def test_an_access_log_gives_its_answers_in_order_an_object_as_large_as_its_largest_answer(tmp_path: Path) -> None:
    file = tmp_path / "edge.log"
    text = line("/a", 10) + line("/b", 5, status=206) + line("/a", 700) + line("/c", 9, method="HEAD") + line("/d", 9, status=403)
    file.write_text(text)
    assert recorded(file, 100).requests == [(1, 700, 0, 0), (2, 5, 0, 0), (1, 700, 0, 0)]
    assert recorded(file, 1).requests == [(1, 10, 0, 0)]


async def test_the_log_that_a_node_writes_has_what_a_trace_needs(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = AccessLog("edge", stream)
    pieces = log.line_around({"node": "fra-1", "method": "GET", "host": "v000.cdn.test", "status": 200})
    log.waiting.append((pieces, 1.0, "trace", "/videos/a/poster.jpg", 321, 0.001, True))
    log.flush()
    file = tmp_path / "edge.log"
    await asyncio.to_thread(file.write_text, stream.getvalue())
    assert recorded(file, 10).requests == [(1, 321, 0, 0)]


def test_a_table_gives_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("time,id,size\n1,x,100\n2,y,7\n3,x,100\n")
    assert recorded(file, 100).requests == [(1, 100, 0, 0), (2, 7, 0, 0), (1, 100, 0, 0)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time,what\n1,x\n", "must name a column"),
        ("id,size\nx,big\n", "line 2: size is no number"),
        ('{"method": "GET"\n', "line 1 is no line of an access log"),
        (line("/a", 9, status=404), "no request that a store could have kept"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(UnreadableTrace, match=says):
        recorded(file, 100)
