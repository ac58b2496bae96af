"""Parts of uploads as local files, beside the object store that they become objects of.

    uploads/{upload_id}/{number}.{sha256}    a part that arrived whole and has this digest
    uploads/{upload_id}/.{random}            one that is arriving

The digest stands in the file's name, so two PUTs of one part at once cannot mix: the newest counts, and `complete` takes
exactly the version that it was told to.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiofiles

from headwater.runtime.wholefiles import sync_folder
from origin.objects.assembling import Assemblies
from origin.objects.filedrafts import FilePartDraft
from origin.objects.files import CHUNK_BYTES, FileObjects, disk_errors_mapped, in_thread
from origin.objects.interface import ObjectInfo, ObjectNotFound
from origin.objects.keys import check_key, check_upload_id
from origin.objects.partlinks import PartLink
from origin.objects.parts import ArrivedPart, PartDigests, PartDraft, PartRequest, PartsDamaged, PartsMissing

_PART = re.compile(r"([1-9][0-9]{0,5})\.([0-9a-f]{64})\Z")
# A link's expiry is in whole seconds, so that the URL is the same text for everyone who reads it.
_ROUND_UP: Final = 1


class UploadNotBegun(Exception):
    """The upload is not known here: never begun, completed or discarded."""


class PartSizeWrong(Exception):
    """The body is longer or shorter than declared."""

    def __init__(self, declared_bytes: int, received_bytes: int) -> None:
        super().__init__(f"{declared_bytes} bytes were declared, {received_bytes} came")
        self.too_long = received_bytes > declared_bytes
        self.received_bytes = received_bytes


class PartDigestWrong(Exception):
    """The body does not have the digest that was sent with it; the message is its actual one, hex."""


class FilePartStore:
    """A PartStore in the folder of a FileObjects; its URLs lead to `origin.objects.endpoint`."""

    verifies = True

    def __init__(self, objects: FileObjects, base_url: str, secret: bytes) -> None:
        self._objects = objects
        self._base_url = base_url.removesuffix("/")
        self.secret = secret
        self._uploads = objects.root / "uploads"
        self._ahead = Assemblies(objects.draft, self._newest, self._part_path)

    async def begin(self, upload_id: str) -> None:
        await in_thread(self._folder(upload_id).mkdir, parents=True, exist_ok=True)

    def part_url(self, upload_id: str, number: int, size_bytes: int, expires_at: float, token_id: str | None = None) -> str:
        link = PartLink(check_upload_id(upload_id), number, size_bytes, int(expires_at) + _ROUND_UP, token_id)
        return link.url(self._base_url, self.secret)

    async def signed(
        self,
        upload_id: str,
        number: int,
        size_bytes: int,
        expires_at: float,
        digests: PartDigests,
        token_id: str | None = None,
    ) -> PartRequest:
        digest = base64.b64encode(bytes.fromhex(digests.sha256)).decode("ascii")
        url = self.part_url(upload_id, number, size_bytes, expires_at, token_id)
        return PartRequest(url, {"Content-Digest": f"sha-256=:{digest}:"})

    async def receive(self, link: PartLink, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        """Stores a part's body; returns when it is on disk under its name.

        Raises UploadNotBegun, PartSizeWrong (at the first byte too many), PartDigestWrong; nothing is left of the body then.
        """
        folder = self._folder(link.upload_id)
        draft = folder / f".{secrets.token_hex(8)}"
        try:
            await self._receive(draft, link.size_bytes, sha256, chunks)
            await in_thread(self._settled, draft, folder / f"{link.number}.{sha256}")
        finally:
            await in_thread(draft.unlink, missing_ok=True)

    def _settled(self, draft: Path, part: Path) -> None:
        _settle(draft, part)
        self._ahead.part_arrived(part.parent.name)

    async def _receive(self, draft: Path, size_bytes: int, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        digest = hashlib.sha256()
        received = 0
        if not await in_thread(draft.parent.is_dir):
            raise UploadNotBegun(draft.parent.name)
        with disk_errors_mapped():  # also when it is closed: what was still to be written is tried once more then
            async with aiofiles.open(draft, "xb") as file:
                async for chunk in chunks:
                    received += len(chunk)
                    if received > size_bytes:
                        raise PartSizeWrong(size_bytes, received)
                    await file.write(chunk)
                    await asyncio.to_thread(digest.update, chunk)
                if received < size_bytes:
                    raise PartSizeWrong(size_bytes, received)
                if digest.hexdigest() != sha256:
                    raise PartDigestWrong(digest.hexdigest())
                await file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())

    async def arrived(self, upload_id: str) -> list[ArrivedPart]:
        return await in_thread(self._newest, upload_id)

    def _newest(self, upload_id: str) -> list[ArrivedPart]:
        newest: dict[int, ArrivedPart] = {}
        for part in _parts_in(self._folder(upload_id)):
            held = newest.get(part.number)
            if held is None or (held.arrived_at, held.sha256) < (part.arrived_at, part.sha256):
                newest[part.number] = part
        return [newest[number] for number in sorted(newest)]

    def _part_path(self, upload_id: str, part: ArrivedPart) -> Path:
        return self._folder(upload_id) / f"{part.number}.{part.sha256}"

    async def draft(self, upload_id: str, number: int) -> PartDraft:
        return await in_thread(FilePartDraft, self._folder(upload_id), number, self._settled)

    async def read_part(self, upload_id: str, part: ArrivedPart) -> AsyncIterator[bytes]:
        path = self._part_path(upload_id, part)
        try:
            async with aiofiles.open(path, "rb") as file:
                while chunk := await file.read(CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError:
            raise PartsMissing(upload_id, [part.number]) from None

    async def adopt(self, upload_id: str, number: int, source_id: str, part: ArrivedPart) -> bool:
        source = self._folder(source_id) / f"{part.number}.{part.sha256}"
        await in_thread(_link, source, self._folder(upload_id) / f"{number}.{part.sha256}", part.number)
        return True

    async def free_bytes(self) -> int | None:
        status = await in_thread(os.statvfs, self._objects.root)
        return status.f_bavail * status.f_frsize

    async def complete(self, upload_id: str, key: str, parts: Sequence[ArrivedPart], content_type: str) -> ObjectInfo:
        folder = self._folder(upload_id)
        if (made := await self._made_before(upload_id, check_key(key))) is None:
            try:
                await in_thread(_check_there, folder, upload_id, parts)
                begun, done = await in_thread(self._ahead.take, upload_id, parts) or (None, 0)
                rest = _assembling(folder, upload_id, parts[done:])
                made = await self._objects.put_chunks(key, rest, content_type, upload_id, begun)
            except PartsMissing:
                # Another call for the same upload may have been faster, and dropped the parts.
                if (made := await self._made_before(upload_id, key)) is None:
                    raise
        await self.discard(upload_id)
        return made

    async def _made_before(self, upload_id: str, key: str) -> ObjectInfo | None:
        try:
            info, made_by = await self._objects.made_by_upload(key)
        except ObjectNotFound:
            return None
        return info if made_by == upload_id else None

    async def discard(self, upload_id: str) -> None:
        await in_thread(_remove_folder, self._folder(upload_id))
        await in_thread(self._ahead.drop, upload_id)

    async def sweep(self, older_than_s: float) -> int:
        # By the files' own times, which the system's clock writes.
        return await in_thread(_sweep_drafts, self._uploads, time.time() - older_than_s)

    def _folder(self, upload_id: str) -> Path:
        return self._uploads / check_upload_id(upload_id)


def _settle(draft: Path, part: Path) -> None:
    """Gives the part its name, durably, and drops older versions of it: of two at once, the one that is acknowledged last stays.

    Its time says which is the newest, also after a crash before the others are dropped; a clock that was set back since they came
    must not make it an older one.
    """
    try:
        folder = os.open(part.parent, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise UploadNotBegun(part.parent.name) from None
    try:
        number = part.name.partition(".")[0]
        with _locked(folder):
            try:
                mine_ns = _newer_than_all(draft, part.parent.glob(f"{number}.*"))
                draft.replace(part)
            except FileNotFoundError:
                raise UploadNotBegun(part.parent.name) from None  # discarded while the part arrived
        os.fsync(folder)
        with _locked(folder):  # a version that came since, under a name that is looked at here, is newer
            for other, others_ns in _times_of(part.parent.glob(f"{number}.*")):
                if other != part and others_ns < mine_ns:
                    other.unlink(missing_ok=True)
    finally:
        os.close(folder)


@contextmanager
def _locked(folder: int) -> Iterator[None]:
    """Alone in the folder, among the origin's threads and processes."""
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


def _newer_than_all(draft: Path, versions: Iterable[Path]) -> int:
    """The draft's time, in ns, after it was moved behind the newest of the versions where it was not."""
    mine_ns = draft.stat().st_mtime_ns
    newest_ns = max((others_ns for _, others_ns in _times_of(versions)), default=0)
    if mine_ns <= newest_ns:
        mine_ns = newest_ns + 1000  # some file systems keep no single nanoseconds
        os.utime(draft, ns=(mine_ns, mine_ns))
        with draft.open("rb") as file:
            os.fsync(file)
    return mine_ns


def _times_of(files: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    for file in files:
        try:
            yield file, file.stat().st_mtime_ns
        except FileNotFoundError:
            continue  # replaced, or discarded, since


def _link(source: Path, target: Path, number: int) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        pass  # linked before
    except FileNotFoundError:
        raise PartsMissing(source.parent.name, [number]) from None
    sync_folder(target.parent)


def _parts_in(folder: Path) -> list[ArrivedPart]:
    found = []
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return []  # never begun, or discarded
    with entries:
        for entry in entries:
            if match := _PART.match(entry.name):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # replaced since
                if stat.S_ISREG(status.st_mode):
                    found.append(ArrivedPart(int(match[1]), status.st_size, match[2], status.st_mtime))
    return found


def _check_there(folder: Path, upload_id: str, parts: Sequence[ArrivedPart]) -> None:
    there = {(part.number, part.sha256, part.size_bytes) for part in _parts_in(folder)}
    missing = [part.number for part in parts if (part.number, part.sha256, part.size_bytes) not in there]
    if missing or not parts:
        raise PartsMissing(upload_id, missing or [1])


def _assembling(folder: Path, upload_id: str, parts: Sequence[ArrivedPart]) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        damaged: list[int] = []
        for part in parts:
            digest = hashlib.sha256()
            try:
                with open(folder / f"{part.number}.{part.sha256}", "rb") as file:
                    while chunk := file.read(CHUNK_BYTES):
                        digest.update(chunk)
                        yield chunk
            except FileNotFoundError:
                raise PartsMissing(upload_id, [part.number]) from None
            if digest.hexdigest() != part.sha256:
                damaged.append(part.number)
        if damaged:
            for part in parts:
                if part.number in damaged:
                    (folder / f"{part.number}.{part.sha256}").unlink(missing_ok=True)  # it has not arrived any more
            raise PartsDamaged(upload_id, damaged)

    return chunks


def _sweep_drafts(uploads: Path, before: float) -> int:
    """Drafts of processes that were killed while a part arrived, and folders in which nothing is."""
    swept = 0
    for left in [*uploads.glob("*/.*"), *uploads.glob("*")]:
        try:
            if left.stat().st_mtime < before:
                left.rmdir() if left.is_dir() else left.unlink()
                swept += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
    return swept


def _remove_folder(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
