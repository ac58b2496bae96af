"""Parts of uploads in an S3 store: parts of one real multipart upload, so that completing copies nothing through us.

    {prefix}uploads/{upload_id}/begun    names the store's multipart upload, so that every process finds the same one
    {prefix}uploads/{upload_id}/{number} a part that the origin itself wrote, as an object: for clients that send a stream, whose
                                         last part grows. It is copied into the multipart upload when the upload is completed
    {prefix}uploads/{upload_id}/whole    what the multipart upload becomes; read once, digest by digest, and copied to its place

The store's own list of parts is the truth about what arrived. A part's URL signs its length and its Content-MD5, so that the
store refuses every other body; its SHA-256, which no store verifies, is checked by `complete`, the first to read the bytes.
A part that does not have it is left out of a new multipart upload that takes over the others, so that it alone is missing.

Parts but the last have at least 5 MiB (S3's own floor).
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from origin.objects.interface import ObjectInfo, ObjectNotFound
from origin.objects.keys import check_key, check_upload_id
from origin.objects.parts import (
    ArrivedPart,
    DigestsUnknown,
    PartDigests,
    PartDraft,
    PartRequest,
    PartsDamaged,
    PartsMissing,
)
from origin.objects.s3 import S3Objects
from origin.objects.s3client import PreconditionFailed
from origin.objects.s3drafts import S3PartDraft
from origin.objects.s3multipart import Multipart, Span, StoredPart
from origin.objects.s3verify import parts_with_digests

LEAST_PART_BYTES: Final = 5 * 1024 * 1024
_BINARY: Final = "application/octet-stream"


class S3PartStore:
    """A PartStore whose URLs lead to the S3 store itself."""

    verifies = False

    def __init__(self, objects: S3Objects, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._connection = objects.connection
        self._multipart = Multipart(objects.connection)
        self._clock = clock

    async def begin(self, upload_id: str) -> None:
        check_upload_id(upload_id)  # the multipart upload begins with the first part that is signed

    def part_url(self, upload_id: str, number: int, size_bytes: int, expires_at: float, token_id: str | None = None) -> None:
        """None: what is not known yet cannot be signed. Ask with the digests."""
        check_upload_id(upload_id)

    async def signed(
        self,
        upload_id: str,
        number: int,
        size_bytes: int,
        expires_at: float,
        digests: PartDigests,
        token_id: str | None = None,
    ) -> PartRequest:
        """The URL holds until it expires, whatever becomes of the token: S3 knows nothing of it."""
        if not digests.md5:
            raise DigestsUnknown("the MD5 of the part is needed: the store checks what arrives by Content-MD5")
        md5 = base64.b64encode(bytes.fromhex(digests.md5)).decode("ascii")
        lifetime_s = max(1, int(expires_at - self._clock()))
        multipart = await self._connection.call(upload_id, self._begun, upload_id)
        url = self._multipart.signed_part_url(self._whole(upload_id), multipart, number, size_bytes, md5, lifetime_s)
        return PartRequest(url, {"Content-MD5": md5})

    async def arrived(self, upload_id: str) -> list[ArrivedPart]:
        return await self._connection.call(upload_id, self._arrived, upload_id)

    async def draft(self, upload_id: str, number: int) -> PartDraft:
        return S3PartDraft(self._connection, self.written_path(upload_id, number), number)

    async def read_part(self, upload_id: str, part: ArrivedPart) -> AsyncIterator[bytes]:
        """Of parts that the origin wrote: what creators sent themselves cannot be read before the upload is completed."""
        written = await self._connection.call(upload_id, self._written, upload_id)
        if (part.number, part.size_bytes) not in {(one.number, one.size_bytes) for one in written}:
            raise PartsMissing(upload_id, [part.number])
        span = Span(part.number, self.written_path(upload_id, part.number), 0, part.size_bytes)
        chunks = self._multipart.chunks(span)
        while chunk := await self._connection.call(upload_id, next, chunks, b""):
            yield chunk

    async def adopt(self, upload_id: str, number: int, source_id: str, part: ArrivedPart) -> bool:
        return False  # S3 wants at least 5 MiB of every part but the last

    async def free_bytes(self) -> int | None:
        return None

    async def complete(self, upload_id: str, key: str, parts: Sequence[ArrivedPart], content_type: str) -> ObjectInfo:
        if (made := await self._made_before(upload_id, check_key(key))) is None:
            try:
                if not parts:
                    raise PartsMissing(upload_id, [1])
                await self._connection.call(upload_id, self._joined, upload_id, parts)
                sha256 = await self._connection.call(upload_id, self._verified, upload_id, parts)
                made = ObjectInfo(key, sum(part.size_bytes for part in parts), sha256, content_type, self._clock())
                await self._connection.call(key, self._put_in_place, upload_id, made)
            except (PreconditionFailed, ObjectNotFound):
                # Dropped while it was read; perhaps by another call that completed the upload.
                if (made := await self._made_before(upload_id, key)) is None:
                    raise PartsMissing(upload_id, [part.number for part in parts]) from None
        await self.discard(upload_id)
        return made

    async def discard(self, upload_id: str) -> None:
        await self._connection.call(upload_id, self._drop, upload_id)

    async def sweep(self, older_than_s: float) -> int:
        """Aborts multipart uploads that no mark names: of processes killed between two steps. Returns how many."""
        return await self._connection.call("", self._abort_unnamed, datetime.fromtimestamp(self._clock() - older_than_s, UTC))

    # Where things are

    def _folder(self, upload_id: str) -> str:
        return self._connection.path(f"uploads/{check_upload_id(upload_id)}/")

    def written_path(self, upload_id: str, number: int) -> str:
        """Where the origin itself writes a part."""
        return f"{self._folder(upload_id)}{number:06d}"

    def _whole(self, upload_id: str) -> str:
        return self._folder(upload_id) + "whole"

    def _mark(self, upload_id: str) -> str:
        return self._folder(upload_id) + "begun"

    async def _made_before(self, upload_id: str, key: str) -> ObjectInfo | None:
        try:
            info, _, metadata = await self._objects.described(key)
        except ObjectNotFound:
            return None
        return info if metadata.get("upload-id") == upload_id else None

    # Blocking steps

    def _begun(self, upload_id: str) -> str:
        """The store's name of the multipart upload; of two who begin at once, the first mark counts."""
        if (named := self._named(upload_id)) is not None:
            return named
        created = self._multipart.create(self._whole(upload_id), _BINARY, {})
        self._connection.put_if_absent(self._mark(upload_id), created.encode())
        # Read again, for stores that do not know conditions: there the last mark counts, for everybody.
        named = self._named(upload_id) or created
        if named != created:
            self._multipart.abort(self._whole(upload_id), created)
        return named

    def _named(self, upload_id: str) -> str | None:
        body = self._connection.get_small(self._mark(upload_id))
        return body.decode() if body else None

    def _arrived(self, upload_id: str) -> list[ArrivedPart]:
        found = {part.number: part for part in [*(self._stored(upload_id) or []), *self._written(upload_id)]}
        return [ArrivedPart(part.number, part.size_bytes, "", part.modified_at, part.md5) for _, part in sorted(found.items())]

    def _written(self, upload_id: str) -> list[StoredPart]:
        folder = self._folder(upload_id)
        return [
            StoredPart(int(name), size_bytes, etag, modified_at)
            for path, size_bytes, etag, modified_at in self._connection.listed(folder)
            if (name := path.removeprefix(folder)).isdecimal()
        ]

    def _stored(self, upload_id: str) -> list[StoredPart] | None:
        """None when nothing was begun, or when it was joined already."""
        named = self._named(upload_id)
        if named is None:
            return None
        stored = self._multipart.parts(self._whole(upload_id), named)
        if stored is None and self._connection.size_of(self._whole(upload_id)) is None:
            # Aborted behind our back, by a lifecycle rule say: a new one is begun, and everything is asked for again.
            self._connection.remove(self._mark(upload_id))
        return stored

    def _joined(self, upload_id: str, parts: Sequence[ArrivedPart]) -> None:
        """The parts are one object now. Raises PartsMissing."""
        whole = self._whole(upload_id)
        if self._connection.size_of(whole) == sum(part.size_bytes for part in parts):
            return  # done before, by a call that was killed
        sent = {(part.number, part.size_bytes): part for part in self._stored(upload_id) or []}
        written = {(part.number, part.size_bytes) for part in self._written(upload_id)}
        named = self._named(upload_id)
        wanted = [(part.number, part.size_bytes) for part in parts]
        if missing := [part[0] for part in wanted if part not in sent and part not in written]:
            raise PartsMissing(upload_id, missing)
        spans = [Span(number, self.written_path(upload_id, number), 0, size_bytes) for number, size_bytes in wanted]
        if named is None or not sent:
            named, chosen = self._multipart.copied(spans, whole, _BINARY, {})
        else:
            copied = {
                span.number: self._multipart.copy_part(span, whole, named) or self._multipart.carry_part(span, whole, named)
                for span in spans
                if (span.number, span.size_bytes) not in sent
            }
            chosen = [sent.get(part) or StoredPart(*part, copied[part[0]], 0.0) for part in wanted]
        self._multipart.complete(whole, named, chosen)

    def _verified(self, upload_id: str, parts: Sequence[ArrivedPart]) -> str:
        """SHA-256 of all parts, each checked against its own where it is known. Raises PartsDamaged, and the good ones stay."""
        whole = hashlib.sha256()
        damaged = []
        spans = _spans(self._whole(upload_id), parts)
        for part, (chunks, digest) in zip(parts, parts_with_digests(spans, self._multipart.chunks), strict=True):
            for chunk in chunks:
                whole.update(chunk)
            if part.sha256 not in ("", digest):
                damaged.append(part.number)
        if damaged:
            self._reopen(upload_id, [span for span in spans if span.number not in damaged])
            raise PartsDamaged(upload_id, damaged)
        return whole.hexdigest()

    def _reopen(self, upload_id: str, good: Sequence[Span]) -> None:
        """A new multipart upload with the good parts of the whole; killed between its steps, it is done again."""
        whole = self._whole(upload_id)
        created, _ = self._multipart.copied(good, whole, _BINARY, {})
        for part in self._written(upload_id):
            self._connection.remove(self.written_path(upload_id, part.number))
        self._connection.put_small(self._mark(upload_id), created.encode())
        self._connection.remove(whole)

    def _put_in_place(self, upload_id: str, info: ObjectInfo) -> None:
        metadata = {"sha256": info.sha256, "modified-at": repr(info.modified_at), "upload-id": upload_id}
        target = self._connection.path(info.key)
        self._multipart.copy(self._whole(upload_id), target, info.size_bytes, info.content_type, metadata)

    def _drop(self, upload_id: str) -> None:
        if (named := self._named(upload_id)) is not None:
            self._multipart.abort(self._whole(upload_id), named)
        for path, *_ in list(self._connection.listed(self._folder(upload_id))):
            # One by one: the batch form needs a checksum that stores disagree about.
            self._connection.remove(path)

    def _abort_unnamed(self, before: datetime) -> int:
        prefix = self._connection.path("uploads/")
        aborted = 0
        for path, multipart, begun_at in self._multipart.unfinished(prefix):
            upload_id = path.removeprefix(prefix).partition("/")[0]
            if begun_at < before and self._named(check_upload_id(upload_id)) != multipart:
                self._multipart.abort(path, multipart)
                aborted += 1
        return aborted


def _spans(whole: str, parts: Sequence[ArrivedPart]) -> list[Span]:
    """Where each part lies in the whole."""
    firsts = accumulate((part.size_bytes for part in parts), initial=0)
    return [Span(part.number, whole, first, part.size_bytes) for part, first in zip(parts, firsts, strict=False)]
