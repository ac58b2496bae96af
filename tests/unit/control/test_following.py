"""Log files as they grow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control.operators.following import PIECE_BYTES, Filter, Tail, parse_statuses


def line(status: int, refusal: str | None = None) -> bytes:
    return json.dumps({"status": status, "refusal": refusal}).encode() + b"\n"


def statuses(tail: Tail, wanted: Filter | None = None) -> list[Any]:
    return [told["line"].get("status") for told in tail.lines(wanted or Filter())]


def add(file: Path, data: bytes) -> None:
    with file.open("ab") as log:
        log.write(data)


def test_lines_come_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "fra-1.access.jsonl"
    add(file, line(200) + line(404) + line(500)[:-5])
    tail = Tail("fra-1", "access", file, last=1)
    assert statuses(tail) == [404]
    assert statuses(tail) == []
    add(file, line(500)[-5:] + line(206))
    assert statuses(tail) == [500, 206]


def test_a_file_that_is_not_there_yet_or_was_emptied_is_followed_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "log"
    tail = Tail("fra-1", "access", file, last=0)
    assert statuses(tail) == []
    add(file, line(200))
    assert statuses(tail) == [200]
    file.write_bytes(b"")
    assert statuses(tail) == []
    add(file, line(201))
    assert statuses(tail) == [201]


def test_a_line_longer_than_a_piece_is_left_out_and_no_more_than_a_piece_is_read(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    tail = Tail("fra-1", "access", file, last=0)
    statuses(tail)
    add(file, b'{"long": "' + b"x" * (2 * PIECE_BYTES) + b'"}\n' + line(200))
    found: list[Any] = []
    for _ in range(4):
        found += statuses(tail)
    assert [status for status in found if status is not None] == [200]


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (Filter(), [200, 403, 404, 503]),
        (Filter(parse_statuses(["4xx"])), [403, 404]),
        (Filter(parse_statuses(["404", "5XX"])), [404, 503]),
        (Filter(refused=True), [403]),
        (Filter(parse_statuses(["200"]), refused=True), []),
    ],
)
def test_filters(tmp_path: Path, wanted: Filter, kept: list[int]) -> None:
    file = tmp_path / "log"
    add(file, line(200) + line(403, "expired") + line(404) + line(503))
    assert statuses(Tail("fra-1", "access", file, last=100), wanted) == kept


@pytest.mark.parametrize("text", ["", "6xx", "4x", "20", "abc", "2000"])
def test_what_is_no_status_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is no status"):
        parse_statuses([text])
