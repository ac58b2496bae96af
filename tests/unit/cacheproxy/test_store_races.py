"""What the disk is slow to tell, and what happened to the object meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.rambody import RamBody
from headwater.cacheproxy.store.store import Store, Stored
from headwater.settings.cache import CacheSettings
from tests.support.waiting import until

KEY = "site/a"


def metadata(body: bytes) -> Metadata:
    now = time.time()
    return Metadata(KEY, 200, (("Cache-Control", "max-age=60"),), len(body), now, now)


@asynccontextmanager
async def looking_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, old: bytes = b"old"
) -> AsyncIterator[tuple[Store, asyncio.Task[Stored | None], Any]]:
    """A store, a look-up that has read `old` from its disk and does not know yet, and what lets it go on."""
    log = structlog.get_logger().bind()
    first = Store(folder, CacheSettings(), log)
    await first.start()
    await first.take_over_disk()
    await first.put_bytes(metadata(old), old)
    await first.close()
    store = Store(folder, CacheSettings(), log)
    await store.start()
    await store.take_over_disk()
    has_read, goes_on, read = threading.Event(), threading.Event(), store._from_disk

    def slowly(key: str) -> Stored | None:
        found = read(key)
        has_read.set()
        goes_on.wait(10)
        return found

    monkeypatch.setattr(store, "_from_disk", slowly)
    task = asyncio.create_task(store.look_up(KEY))
    await asyncio.to_thread(has_read.wait, 10)
    try:
        yield store, task, goes_on
    finally:
        goes_on.set()
        await asyncio.wait([task])
        await store.close()


def body_of(stored: Stored | None) -> bytes | None:
    return stored.body.data if stored is not None and isinstance(stored.body, RamBody) else None


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with others"])
async def test_what_is_discarded_while_it_is_read_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    async with looking_up(tmp_path, monkeypatch) as (store, task, goes_on):
        await (store.discard(KEY) if alone else store.discard_held([KEY, "site/another"]))
        goes_on.set()
        await task
        assert await store.look_up(KEY) is None


@pytest.mark.parametrize("body", [b"newer", bytes(64 * 2**20)], ids=["in memory", "too large for memory"])
async def test_what_is_replaced_while_it_is_read_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    async with looking_up(tmp_path, monkeypatch) as (store, task, goes_on):
        await store.put_bytes(metadata(body), body)
        goes_on.set()
        await task
        found = await store.look_up(KEY)
        assert found is not None
        assert found.metadata.size_bytes == len(body)
        found.close()


async def test_a_client_that_leaves_while_a_large_object_is_opened_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with looking_up(tmp_path, monkeypatch, bytes(64 * 2**20)) as (_, task, goes_on):
        assert [file for file in open_files() if file.startswith(str(tmp_path / "objects"))]
        task.cancel()
        goes_on.set()
        await until(lambda: not [file for file in open_files() if file.startswith(str(tmp_path / "objects"))])


async def test_what_is_discarded_while_it_is_written_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, CacheSettings(), structlog.get_logger().bind())
    await store.start()
    await store.take_over_disk()
    writes, goes_on, write = threading.Event(), threading.Event(), store.disk.write

    def slowly(*arguments: Any) -> bool:
        writes.set()
        goes_on.wait(10)
        return write(*arguments)

    monkeypatch.setattr(store.disk, "write", slowly)
    putting = asyncio.create_task(store.put_bytes(metadata(b"old"), b"old"))
    await asyncio.to_thread(writes.wait, 10)
    await store.discard(KEY)
    goes_on.set()
    assert not await putting
    assert await store.look_up(KEY) is None
    assert await store.put_bytes(metadata(b"new"), b"new"), "what comes later is taken"
    assert body_of(await store.look_up(KEY)) == b"new"
    await store.close()


def open_files() -> list[str]:
    """What this process has open, by path."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found
