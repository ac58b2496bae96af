"""A body in memory lies as its readers take it, is always the same bytes, and leaves no file open behind it."""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.cacheproxy.store.rambody import PAGED_FROM_BYTES, PATIENCE, Pages, RamBody

LARGE = os.urandom(PAGED_FROM_BYTES + 4321)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def paged(data: bytes = LARGE) -> RamBody:
    body = RamBody(data)
    for _ in range(PATIENCE):
        body.pages_or_data()
    return body


def test_a_large_body_becomes_pages_when_so_many_in_a_row_want_them() -> None:
    body = RamBody(LARGE)
    assert [body.pages_or_data() for _ in range(PATIENCE - 1)] == [LARGE] * (PATIENCE - 1)
    pages = body.pages_or_data()
    assert isinstance(pages, Pages)
    assert os.pread(pages.fileno(), len(LARGE), 0) == LARGE
    assert body.data == LARGE


def test_a_small_body_stays_bytes() -> None:
    small = b"x" * (PAGED_FROM_BYTES - 1)
    body = RamBody(small)
    assert {body.pages_or_data() for _ in range(3 * PATIENCE)} == {small}


def test_readers_of_both_kinds_do_not_turn_a_body_about() -> None:
    body = RamBody(LARGE)
    for _ in range(5 * PATIENCE):
        assert body.pages_or_data() is LARGE
        assert body.data is LARGE
    lasting = paged()
    first = lasting.pages_or_data()
    for _ in range(5 * PATIENCE):
        assert lasting.data == LARGE
        assert lasting.pages_or_data() is first


def test_pages_become_bytes_again_and_their_file_is_closed() -> None:
    before = open_files()
    body = paged()
    assert open_files() == before + 1
    for _ in range(PATIENCE):
        assert body.data == LARGE
    assert open_files() == before
    assert body.data is body.data


def test_a_transfer_under_way_keeps_the_pages_of_a_body_that_was_given_up() -> None:
    gc.collect()
    before = Pages.open_now
    body = paged()
    held = body.pages_or_data()
    assert isinstance(held, Pages)
    del body
    gc.collect()
    assert held.read(0, len(LARGE)) == LARGE
    del held
    assert Pages.open_now == before


def test_where_files_run_out_a_body_stays_bytes_and_tries_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (Pages.open_now * 4, 1024))
    body = paged()
    assert body.pages_or_data() is LARGE
    monkeypatch.undo()
    for _ in range(PATIENCE):
        body.pages_or_data()
    assert isinstance(body.pages_or_data(), Pages)
    assert open_files() == before + 1


def test_where_the_system_has_none_a_body_stays_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    body = paged()
    assert body.pages_or_data() is LARGE


@given(
    uses=st.lists(st.sampled_from(["data", "pages", "part"]), max_size=60),
    size=st.sampled_from([1, PAGED_FROM_BYTES - 1, PAGED_FROM_BYTES, len(LARGE)]),
    first=st.integers(0, len(LARGE)),
    count=st.integers(1, len(LARGE)),
)
def test_whoever_reads_in_whatever_order_gets_the_same_bytes(uses: list[str], size: int, first: int, count: int) -> None:
    data = LARGE[:size]
    body = RamBody(data)
    first = min(first, size - 1)
    last = min(first + count, size) - 1
    for use in uses:
        match use:
            case "data":
                assert body.data == data
            case "pages":
                whole = body.pages_or_data()
                assert (whole if isinstance(whole, bytes) else whole.read(0, size)) == data
            case _:
                assert body.part(first, last) == data[first : last + 1]
    assert body.size_bytes == size
