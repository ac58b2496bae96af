"""Objects as local files: the asynchronous face of a blob folder.

All file work is done in threads; the loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from origin.objects.blobs import BlobFolder, Draft, Name
from origin.objects.interface import DiskFull, ObjectInfo, ObjectStoreFailed, OpenedObject, is_disk_full
from origin.objects.threads import to_its_end

CHUNK_BYTES: Final = 512 * 1024
LIST_BATCH: Final = 256

P = ParamSpec("P")
T = TypeVar("T")


class OpenedFile:
    """An object whose blob is open: it can be read to its end even if it is replaced or swept meanwhile."""

    def __init__(self, info: ObjectInfo, descriptor: int) -> None:
        self.info = info
        self._descriptor = descriptor

    async def read(self, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        end = self.info.size_bytes if last is None else min(last + 1, self.info.size_bytes)
        offset = first
        while offset < end:
            chunk = await in_thread(os.pread, self._descriptor, min(CHUNK_BYTES, end - offset), offset)
            if not chunk:
                raise ObjectStoreFailed(f"{self.info.key} is damaged: it ends at byte {offset}")
            offset += len(chunk)
            yield chunk


class FileObjects:
    """A TierStore over one folder, which several processes may share."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = BlobFolder(root)
        self._clock = clock

    @property
    def root(self) -> Path:
        return self._folder.root

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectInfo:
        return await self.put_chunks(key, lambda: _chunks_of_file(path), content_type)

    async def put_bytes(self, key: str, body: bytes, content_type: str) -> ObjectInfo:
        return await self.put_chunks(key, lambda: (body,), content_type)

    async def put_chunks(
        self,
        key: str,
        chunks: Callable[[], Iterable[bytes]],
        content_type: str,
        upload_id: str | None = None,
        begun: Draft | None = None,
    ) -> ObjectInfo:
        """Stores what `chunks()` gives; it is called and read in a thread, and nothing is stored when it raises. It goes after
        what is in `begun`, if there is one."""
        return await in_thread(self._put, key, chunks, content_type, upload_id, begun)

    def draft(self) -> Draft:
        """A file beside the objects, to begin one with. Blocks."""
        return self._folder.draft()

    def _put(
        self, key: str, chunks: Callable[[], Iterable[bytes]], content_type: str, upload_id: str | None, begun: Draft | None
    ) -> ObjectInfo:
        draft = begun or self._folder.draft()
        try:
            for chunk in chunks():
                draft.write(chunk)
            name = Name(draft.finish(), draft.size_bytes, content_type, self._clock(), upload_id)
            self._folder.publish(key, draft, name)
        finally:
            draft.abandon()
        return name.info(key)

    async def stat(self, key: str) -> ObjectInfo:
        return (await in_thread(self._folder.find, key)).info(key)

    async def made_by_upload(self, key: str) -> tuple[ObjectInfo, str | None]:
        """(what `stat` says, the upload that made it). Raises ObjectNotFound."""
        name = await in_thread(self._folder.find, key)
        return name.info(key), name.upload_id

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[OpenedObject]:
        opening = asyncio.ensure_future(asyncio.to_thread(self._folder.open, key))
        with disk_errors_mapped():
            name, descriptor = await to_its_end(opening, lambda found: os.close(found[1]))
        try:
            yield OpenedFile(name.info(key), descriptor)
        finally:
            os.close(descriptor)  # of a file that was only read: does not wait for the disk

    async def read(self, key: str, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        async with self.opened(key) as opened:
            async for chunk in opened.read(first, last):
                yield chunk

    async def delete(self, key: str) -> None:
        await in_thread(self._folder.forget, key)

    async def delete_version(self, info: ObjectInfo) -> bool:
        return await in_thread(self._folder.forget_version, info)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        names = self._folder.names(prefix)
        while batch := await in_thread(_next_batch, names):
            for key, name in batch:
                yield name.info(key)

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        yield await in_thread(self._folder.blob_of, key)

    async def adopt(self, source: OpenedObject) -> bool:
        draft = await in_thread(self._folder.draft)
        try:
            async for chunk in source.read():
                await in_thread(draft.write, chunk)
            return await in_thread(self._adopt, source.info, draft)
        finally:
            await in_thread(draft.abandon)

    def _adopt(self, info: ObjectInfo, draft: Draft) -> bool:
        if (sha256 := draft.finish()) != info.sha256:
            raise ObjectStoreFailed(f"{info.key} is damaged where it was read: its digest is {sha256}, not {info.sha256}")
        name = Name(info.sha256, info.size_bytes, info.content_type, info.modified_at)
        return self._folder.publish(info.key, draft, name, only_if_absent=True)

    async def sweep(self, older_than_s: float) -> int:
        # By the files' own times, which the system's clock writes.
        return await in_thread(self._folder.sweep, time.time(), older_than_s)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work` in a thread, to its end; what the disk refuses is an ObjectStoreFailed that says what to do."""
    with disk_errors_mapped():
        return await to_its_end(asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs)))


@contextmanager
def disk_errors_mapped() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull("the disk of the object store is full: free space or move the store") from error
        raise ObjectStoreFailed(f"the object store's folder cannot be used: {error}") from error


def _next_batch(names: Iterator[tuple[str, Name]]) -> list[tuple[str, Name]]:
    return list(islice(names, LIST_BATCH))


def _chunks_of_file(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
