"""What every object store promises, asked of each of them: local files, S3 (a real server), and the fake that other tests use."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from origin.objects.files import FileObjects
from origin.objects.interface import InvalidKey, ObjectInfo, ObjectNotFound, ObjectStoreFailed, TierStore
from origin.objects.s3 import PART_BYTES, S3Objects

BODY = hashlib.shake_256(b"body").digest(600_003)


async def body_of(store: TierStore, key: str, first: int = 0, last: int | None = None) -> bytes:
    async with aclosing(store.read(key, first, last)) as chunks:  # type: ignore[type-var]
        return b"".join([chunk async for chunk in chunks])


async def test_what_was_put_is_there_whole_with_its_digest(store: TierStore, tmp_path: Path) -> None:
    file = tmp_path / "segment.m4s"
    file.write_bytes(BODY)
    put = await store.put_file("videos/v/h264/360p/segment_00000.m4s", file, "video/iso.segment")
    found = await store.stat("videos/v/h264/360p/segment_00000.m4s")
    assert put == found
    assert (found.size_bytes, found.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())
    assert found.content_type == "video/iso.segment"
    assert await body_of(store, found.key) == BODY


RANGES = [(0, 0), (5, 9), (0, None), (524287, 524289), (600_002, None), (599_999, 9_999_999), (2_000_000, None)]


async def test_a_read_gives_exactly_the_bytes_asked_for(store: TierStore) -> None:
    await store.put_bytes("a", BODY, "x/y")
    for first, last in RANGES:
        assert await body_of(store, "a", first, last) == BODY[first : None if last is None else last + 1]


async def test_an_empty_object_is_an_object(store: TierStore) -> None:
    await store.put_bytes("empty", b"", "text/plain")
    assert (await store.stat("empty")).size_bytes == 0
    assert await body_of(store, "empty") == b""


async def test_what_is_not_there_is_said_before_the_first_byte(store: TierStore) -> None:
    with pytest.raises(ObjectNotFound):
        await store.stat("videos/none")
    with pytest.raises(ObjectNotFound):
        await body_of(store, "videos/none")
    with pytest.raises(ObjectNotFound):
        async with store.as_file("videos/none"):
            pass
    await store.delete("videos/none")


ODD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".a", "a b", "a\\b", "a\x00b", "ä", "a" * 600, "a@", "a\n"]


async def test_odd_keys_name_nothing_and_can_be_given_to_nothing(store: TierStore) -> None:
    for key in ODD_KEYS:
        with pytest.raises(InvalidKey):
            await store.put_bytes(key, b"x", "x/y")
        with pytest.raises(ObjectNotFound):
            await store.stat(key)


async def test_a_put_replaces_whole(store: TierStore) -> None:
    await store.put_bytes("m.m3u8", b"one and more", "a/b")
    await store.put_bytes("m.m3u8", b"two", "c/d")
    assert (await store.stat("m.m3u8")).content_type == "c/d"
    assert await body_of(store, "m.m3u8") == b"two"
    await store.delete("m.m3u8")
    with pytest.raises(ObjectNotFound):
        await store.stat("m.m3u8")


async def test_a_list_is_in_key_order_and_keys_may_begin_with_other_keys(
    store: TierStore, request: pytest.FixtureRequest
) -> None:
    keys = ["a/b", "a/b/c", "a-b", "a", "a.b", "a/bc", "b", "a/b.c"]
    if isinstance(store, S3Objects) and request.node.callspec.params["store"] == "rclone":
        # rclone keeps keys as files, so that no key can be another's folder.
        keys = ["a/b/c", "a-b", "a.b", "a/bc", "b", "a/b.c"]
    for key in keys:
        await store.put_bytes(key, key.encode(), "x/y")
    assert [info.key async for info in store.list("")] == sorted(keys)
    assert [info.key async for info in store.list("a/")] == [key for key in sorted(keys) if key.startswith("a/")]
    assert [info.key async for info in store.list("a/b")] == [key for key in sorted(keys) if key.startswith("a/b")]
    assert [info.key async for info in store.list("none/")] == []


async def test_a_tool_gets_a_file_with_the_objects_bytes(store: TierStore) -> None:
    await store.put_bytes("master.mov", BODY, "video/quicktime")
    async with store.as_file("master.mov") as path:
        assert path.read_bytes() == BODY


async def test_a_body_of_several_parts_comes_back_whole(store: TierStore, tmp_path: Path) -> None:
    body = BODY * (PART_BYTES // len(BODY) + 2)
    file = tmp_path / "long"
    file.write_bytes(body)
    await store.put_file("long", file, "x/y")
    assert hashlib.sha256(await body_of(store, "long")).digest() == hashlib.sha256(body).digest()


async def test_readers_see_one_version_or_the_other_while_it_is_replaced(store_at_once: TierStore) -> None:
    store = store_at_once
    versions = {bytes([65 + number]) * (3000 + number) for number in range(8)}
    await store.put_bytes("m", min(versions), "x/y")
    seen = set()

    async def write() -> None:
        for version in versions:
            await store.put_bytes("m", version, "x/y")

    writing = asyncio.create_task(write())
    while not writing.done():
        async with store.opened("m") as opened:
            try:
                body = b"".join([chunk async for chunk in opened.read()])
            except ObjectStoreFailed:
                # S3 keeps no version open: the reader is told that it was replaced, and never gets bytes of another one.
                assert isinstance(store, S3Objects)
                continue
            assert opened.info.sha256 == hashlib.sha256(body).hexdigest()
            seen.add(body)
        await asyncio.sleep(0)
    await writing
    assert seen <= versions


async def test_adopting_keeps_digest_type_and_time_and_never_replaces(store: TierStore, tmp_path: Path) -> None:
    source = FileObjects(tmp_path / "source")
    info = await source.put_bytes("k", BODY, "video/mp4")
    async with source.opened("k") as opened:
        assert await store.adopt(opened)
        assert not await store.adopt(opened)
    assert await store.stat("k") == info
    assert await body_of(store, "k") == BODY


async def test_adopting_refuses_a_body_that_does_not_have_its_digest(store: TierStore) -> None:
    class Damaged:
        info = ObjectInfo("k", 5, "0" * 64, "x/y", 1.0)

        async def read(self, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
            yield b"wrong"

    with pytest.raises(ObjectStoreFailed):
        await store.adopt(Damaged())
    with pytest.raises(ObjectNotFound):
        await store.stat("k")


async def test_a_version_is_deleted_only_while_it_is_the_present_one(store: TierStore) -> None:
    old = await store.put_bytes("k", b"same", "x/y")
    new = await store.put_bytes("k", b"same", "x/y")
    assert not await store.delete_version(old)
    assert await store.delete_version(new)
    assert not await store.delete_version(new)
