"""Puts what was made under the names that viewers fetch. Manifests come last and are replaced whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from pathlib import Path

from headwater.rules.contentsteering import DASH_STEERING
from headwater.rules.mediapath import (
    DASH_MANIFEST,
    MASTER_PLAYLIST,
    MEDIA_PLAYLIST,
    content_type_of,
    rung_key,
    video_key,
    video_prefix,
)
from headwater.rules.names import VideoId
from origin.objects.interface import ObjectNotFound, ObjectStore
from origin.transcode.publishing.dash import Growing, dash_manifest
from origin.transcode.publishing.hls import master_playlist, media_playlist, segments_listed
from origin.transcode.publishing.rendition import Rendition

AT_ONCE = 8


class Publisher:
    """One video's objects in the store. `steering_url` is what its DASH manifest names for Content Steering."""

    def __init__(self, store: ObjectStore, video_id: VideoId, steering_url: str = DASH_STEERING) -> None:
        self._store = store
        self._video_id = video_id
        self._steering_url = steering_url
        self._written: dict[str, str] = {}  # manifests, as this process wrote them

    async def files(self, codec: str, rung: str, files: Iterable[tuple[str, Path]]) -> None:
        """Files of one rung by name, several at once."""
        await self._put_all([(rung_key(self._video_id, codec, rung, name), file) for name, file in files])

    async def playlist(self, rendition: Rendition) -> None:
        """The playlist of what is there of a rendition, at its address; also when its files lie elsewhere by now."""
        places = (
            [(rendition.rung, f"../{rendition.folder}/"), (rendition.folder, "")] if rendition.folder else [(rendition.rung, "")]
        )
        for folder, base in places:
            key = rung_key(self._video_id, rendition.codec, folder, MEDIA_PLAYLIST)
            await self._store.put_bytes(key, media_playlist(rendition, base).encode(), content_type_of(MEDIA_PLAYLIST))

    async def are(self, codec: str, rung: str, files: Iterable[tuple[str, Path]]) -> bool:
        """Whether exactly these files are in the store under their names."""
        for name, file in files:
            try:
                info = await self._store.stat(rung_key(self._video_id, codec, rung, name))
            except ObjectNotFound:
                return False
            if info.sha256 != await asyncio.to_thread(_sha256, file):
                return False
        return True

    async def segments_listed(self, codec: str, rung: str) -> int:
        """How many segments the published playlist names; 0 without one."""
        try:
            key = rung_key(self._video_id, codec, rung, MEDIA_PLAYLIST)
            text = b"".join([chunk async for chunk in self._store.read(key)])
        except ObjectNotFound:
            return 0
        return segments_listed(text.decode())

    async def stills(self, files: Iterable[tuple[str, Path]]) -> None:
        """In their order: an index after what it names."""
        for name, file in files:
            await self._store.put_file(video_key(self._video_id, name), file, content_type_of(name))

    async def manifests(self, video: list[Rendition], audio: Rendition | None, growing: Growing | None) -> None:
        """Both manifests over exactly these renditions. One that would say the same again is left alone."""
        for name, text in (
            (DASH_MANIFEST, dash_manifest(video, audio, growing, self._steering_url)),
            (MASTER_PLAYLIST, master_playlist(video, audio)),
        ):
            if self._written.get(name) != text:
                await self._store.put_bytes(video_key(self._video_id, name), text.encode(), content_type_of(name))
                self._written[name] = text

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


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
