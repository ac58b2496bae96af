"""Puts what was made under the names that viewers fetch. Manifests come last and are replaced whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from headwater.rules.mediapath import DASH_MANIFEST, MASTER_PLAYLIST, content_type_of, rung_key, video_key, video_prefix
from headwater.rules.names import VideoId
from origin.objects.interface import ObjectStore
from origin.transcode.dash import dash_manifest
from origin.transcode.hls import master_playlist
from origin.transcode.rendition import Rendition
from origin.transcode.tasks import PackagedRung

AT_ONCE = 8


class Publisher:
    """One video's objects in the store."""

    def __init__(self, store: ObjectStore, video_id: VideoId) -> None:
        self._store = store
        self._video_id = video_id

    async def rung(self, packaged: PackagedRung) -> None:
        """Header and segments, then the playlist."""
        rendition = packaged.rendition
        keyed = [(rung_key(self._video_id, rendition.codec, rendition.rung, name), file) for name, file in packaged.files]
        await self._put_all(keyed[:-1])
        await self._put_all(keyed[-1:])

    async def stills(self, files: Iterable[tuple[str, Path]]) -> None:
        """In their order: an index after what it names."""
        for name, file in files:
            await self._store.put_file(video_key(self._video_id, name), file, content_type_of(name))

    async def manifests(self, video: list[Rendition], audio: Rendition | None) -> None:
        """Both manifests over exactly these renditions."""
        for name, text in (
            (DASH_MANIFEST, dash_manifest(video, audio)),
            (MASTER_PLAYLIST, master_playlist(video, audio)),
        ):
            await self._store.put_bytes(video_key(self._video_id, name), text.encode(), content_type_of(name))

    async def withdraw(self) -> None:
        """Takes back everything of a video that failed before it could be played."""
        async for info in self._store.list(video_prefix(self._video_id)):
            await self._store.delete(info.key)

    async def _put_all(self, keyed: list[tuple[str, Path]]) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def put(key: str, file: Path) -> None:
            async with limit:
                await self._store.put_file(key, file, content_type_of(key))

        async with asyncio.TaskGroup() as group:
            for key, file in keyed:
                group.create_task(put(key, file))
