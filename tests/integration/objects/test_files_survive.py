"""Local files under kill, symlinks, damage and sweeps."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.runtime.metrics import value
from origin.objects.files import FileObjects
from origin.objects.interface import ObjectInfo, ObjectNotFound, ObjectStoreFailed
from tests.support.deployments import ROOT

# Puts versions of one manifest and new segments for ever, and says so on stdout after each.
WRITER = """
import asyncio, sys
from pathlib import Path
from origin.objects.files import FileObjects

async def main():
    store = FileObjects(Path(sys.argv[1]))
    for number in range(10**6):
        body = (b"%08d" % number) * 40_000
        await store.put_bytes("m.m3u8", body, "x/y")
        await store.put_bytes(f"segments/{number:05d}", body, "x/y")
        print(number, flush=True)

asyncio.run(main())
"""


async def whole(store: FileObjects, key: str) -> ObjectInfo:
    """The object, read and checked against its digest."""
    async with store.opened(key) as opened:
        body = b"".join([chunk async for chunk in opened.read()])
    assert hashlib.sha256(body).hexdigest() == opened.info.sha256
    return opened.info


async def test_a_writer_killed_at_any_moment_leaves_whole_objects_and_loses_none_it_acknowledged(tmp_path: Path) -> None:
    for round_number in range(4):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WRITER,
            str(tmp_path),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        acknowledged = -1
        for _ in range(3 + 2 * round_number):
            acknowledged = int(await process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        await process.wait()
        rest = [int(line) for line in (await process.stdout.read()).splitlines()]
        acknowledged = max([acknowledged, *rest])
        store = FileObjects(tmp_path)
        keys = [info.key async for info in store.list("")]
        for key in keys:
            await whole(store, key)
        assert {f"segments/{number:05d}" for number in range(acknowledged + 1)} <= set(keys)
        assert "m.m3u8" in keys


async def test_a_sweep_collects_what_nothing_names_but_nothing_young(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    await store.put_bytes("m", b"old", "x/y")
    await store.put_bytes("m", b"new", "x/y")
    (tmp_path / "drafts" / "left").write_bytes(b"half")
    assert await store.sweep(3600) == 0
    for path in [*(tmp_path / "blobs").glob("*/*"), *(tmp_path / "drafts").iterdir()]:
        os.utime(path, (0, 0))
    assert await store.sweep(3600) == 2
    await whole(store, "m")
    assert list((tmp_path / "drafts").iterdir()) == []


async def test_the_same_content_is_stored_once_and_made_young_by_its_next_put(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    await store.put_bytes("a", b"same", "x/y")
    [blob] = (tmp_path / "blobs").glob("*/*")
    await store.delete("a")
    os.utime(blob, (0, 0))
    await store.put_bytes("b", b"same", "x/y")
    assert [*(tmp_path / "blobs").glob("*/*")] == [blob]
    assert time.time() - blob.stat().st_mtime < 60


async def test_a_reader_keeps_its_version_when_it_is_replaced_and_swept(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    await store.put_bytes("m", b"old", "x/y")
    async with store.opened("m") as opened:
        await store.put_bytes("m", b"new", "x/y")
        for path in (tmp_path / "blobs").glob("*/*"):
            os.utime(path, (0, 0))
        assert await store.sweep(3600) == 1
        assert b"".join([chunk async for chunk in opened.read()]) == b"old"


async def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "k@").write_text("{}")
    root = tmp_path / "store"
    store = FileObjects(root)
    (root / "names" / "link").symlink_to(outside)
    with pytest.raises(ObjectStoreFailed):
        await store.stat("link/k")
    with pytest.raises(ObjectStoreFailed):
        await store.put_bytes("link/new", b"x", "x/y")
    assert [path.name for path in outside.iterdir()] == ["k@"]
    (root / "names" / "file@").symlink_to(outside / "k@")
    with pytest.raises(ObjectStoreFailed):
        await store.stat("file")
    assert [info.key async for info in store.list("")] == []


async def test_damage_is_named_and_counted_and_never_read(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    await store.put_bytes("a", b"body", "x/y")
    before = value("headwater_objects_damaged_total", what="blob_missing")
    [blob] = (tmp_path / "blobs").glob("*/*")
    blob.unlink()
    with pytest.raises(ObjectStoreFailed, match="missing"):
        await whole(store, "a")
    assert value("headwater_objects_damaged_total", what="blob_missing") == before + 1
    (tmp_path / "names" / "a@").write_text("{not json")
    with pytest.raises(ObjectStoreFailed, match="name file"):
        await store.stat("a")
    await store.put_bytes("a", b"mended", "x/y")
    await whole(store, "a")
    with pytest.raises(ObjectNotFound):
        await store.stat("b")


async def test_a_damaged_name_hides_no_other_and_stops_the_sweep_that_could_not_know_its_blob(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    for key in ("a", "b", "c"):
        await store.put_bytes(key, key.encode(), "x/y")
    (tmp_path / "names" / "b@").write_text("{not json")
    for path in (tmp_path / "blobs").glob("*/*"):
        os.utime(path, (0, 0))
    assert [info.key async for info in store.list("")] == ["a", "c"]
    with pytest.raises(ObjectStoreFailed, match="name file"):
        await store.sweep(3600)
    assert len([*(tmp_path / "blobs").glob("*/*")]) == 3


async def test_a_put_that_is_cancelled_has_ended_when_its_task_has(tmp_path: Path) -> None:
    """A thread cannot be stopped: a deleted video's transcoder must not say that it has let go while one still puts a segment."""
    store = FileObjects(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def chunks() -> Iterator[bytes]:
        begun.set()
        go_on.wait(10)
        yield b"late"

    putting = asyncio.create_task(store.put_chunks("segment", chunks, "x/y"))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(2):  # a task may be cancelled by more than one
        putting.cancel()
        await asyncio.sleep(0)
    assert not putting.done()
    go_on.set()
    await asyncio.gather(putting, return_exceptions=True)
    assert putting.cancelled()
    assert (await store.stat("segment")).size_bytes == 4
