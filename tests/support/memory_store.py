"""A TierStore in memory that lets others run at every step: before each of its operations, and between two chunks."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from origin.objects.interface import ObjectInfo, ObjectNotFound, ObjectStoreFailed, OpenedObject
from origin.objects.keys import check_key, check_prefix

CHUNKS = 3
_ticks = count(1)


async def let_others_run() -> None:
    await asyncio.sleep(0)


class OpenedMemory:
    def __init__(self, info: ObjectInfo, body: bytes, step: Callable[[], Awaitable[None]]) -> None:
        self.info = info
        self._body = body
        self._step = step

    async def read(self, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        end = len(self._body) if last is None else min(last + 1, len(self._body))
        length = max(1, (end - first) // CHUNKS)
        for start in range(first, end, length):
            await self._step()
            yield self._body[start : min(start + length, end)]


class MemoryObjects:
    """`step` is awaited before every operation; time is a counter, so that no two puts have the same."""

    def __init__(self, step: Callable[[], Awaitable[None]] = let_others_run) -> None:
        self._step = step
        self.held: dict[str, tuple[ObjectInfo, bytes]] = {}

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectInfo:
        return await self.put_bytes(key, await asyncio.to_thread(path.read_bytes), content_type)

    async def put_bytes(self, key: str, body: bytes, content_type: str) -> ObjectInfo:
        info = ObjectInfo(check_key(key), len(body), hashlib.sha256(body).hexdigest(), content_type, float(next(_ticks)))
        await self._step()
        self.held[key] = (info, body)
        return info

    async def stat(self, key: str) -> ObjectInfo:
        await self._step()
        return self._find(key)[0]

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[OpenedObject]:
        await self._step()
        yield OpenedMemory(*self._find(key), self._step)

    async def read(self, key: str, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        async with self.opened(key) as opened:
            async for chunk in opened.read(first, last):
                yield chunk

    async def delete(self, key: str) -> None:
        await self._step()
        self.held.pop(check_key(key), None)

    async def delete_version(self, info: ObjectInfo) -> bool:
        await self._step()
        if info.key not in self.held or not self.held[info.key][0].same_version(info):
            return False
        del self.held[info.key]
        return True

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await self._step()
        for key in sorted(key for key in self.held if key.startswith(check_prefix(prefix))):
            yield self.held[key][0]

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        await self._step()
        with tempfile.NamedTemporaryFile() as file:
            file.write(self._find(key)[1])
            file.flush()
            yield Path(file.name)

    async def adopt(self, source: OpenedObject) -> bool:
        body = b"".join([chunk async for chunk in source.read()])
        if hashlib.sha256(body).hexdigest() != source.info.sha256:
            raise ObjectStoreFailed(f"{source.info.key} is damaged where it was read")
        await self._step()
        if source.info.key in self.held:
            return False
        self.held[source.info.key] = (source.info, body)
        return True

    async def sweep(self, older_than_s: float) -> int:
        return 0

    def _find(self, key: str) -> tuple[ObjectInfo, bytes]:
        try:
            return self.held[check_key(key)]
        except KeyError:
            raise ObjectNotFound(key) from None
