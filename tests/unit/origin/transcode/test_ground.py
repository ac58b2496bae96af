"""Files that parts of an upload are copied into, while the copying is cancelled: its thread goes on for a moment."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from headwater.rules.names import VideoId
from origin.objects.fileparts import FilePartStore
from origin.objects.files import FileObjects
from origin.transcode.early.ground import Ground
from origin.uploads.landed import LandedFile, Landing

BODY = b"bytes"


async def a_copy(folder: Path) -> tuple[Ground, LandedFile]:
    """What an upload of one part is copied by, and the upload."""
    store = FilePartStore(FileObjects(folder / "objects"), "http://127.0.0.1:1", b"secret")
    await store.begin("u")
    draft = await store.draft("u", 1)
    await draft.write(BODY)
    await draft.settle()
    catalogue = create_async_engine("sqlite+aiosqlite://")  # reading what is known to be there asks it nothing
    file = LandedFile(VideoId("AAAAAAAAAAA"), "u", len(BODY), len(BODY), tuple(await store.arrived("u")))
    return Ground(Landing(catalogue, store), folder / "ground"), file


async def cancelled_in(call: str, work: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cancels `work` while this call of `os` is about to be made in a thread, and lets it be made then; what it gave."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []
    real = getattr(os, call)

    def held(*arguments: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return real(*arguments)
        begun.set()
        go_on.wait(10)
        try:
            result = real(*arguments)
        finally:
            ended.set()
        seen.append(result)
        return result

    monkeypatch.setattr(os, call, held)
    task = asyncio.ensure_future(work())
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.to_thread(ended.wait, 10)
    await asyncio.sleep(0.05)  # for what else the thread does, if nobody has waited for it
    assert task.cancelled()
    return seen


def is_open(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").exists()


async def test_a_file_that_is_opened_for_a_cancelled_copy_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ground, file = await a_copy(tmp_path)
    [descriptor] = await cancelled_in("open", lambda: ground.hold(file, 0, len(BODY)), monkeypatch)
    assert not is_open(descriptor)


async def test_a_file_is_not_closed_while_a_thread_is_about_to_write_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number would be that of whatever is opened next, the catalogue say, and the upload's bytes would go there."""
    ground, file = await a_copy(tmp_path)
    await cancelled_in("pwrite", lambda: ground.hold(file, 0, len(BODY)), monkeypatch)
    assert (tmp_path / "ground").read_bytes() == BODY


async def test_an_object_that_is_opened_for_a_cancelled_reader_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileObjects(tmp_path)
    await store.put_bytes("segment", BODY, "x/y")

    async def read() -> None:
        async with store.opened("segment"):
            pytest.fail("it was cancelled")

    opened = await cancelled_in("open", read, monkeypatch)
    assert [descriptor for descriptor in opened if is_open(descriptor)] == []
