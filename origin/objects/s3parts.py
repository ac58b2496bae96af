"""Parts of uploads in an S3 store: each part is an object of its own until the upload is completed.

    {prefix}uploads/{upload_id}/{number}

Objects, not parts of an S3 multipart upload: the URL can then be signed without asking the store (an S3 upload id would have
to be remembered between processes), a part can be sent again in any order, and a lifecycle rule sees unfinished uploads.
`complete` reads every part once, for the digests, and lets the store copy the parts together on its side.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from origin.objects.interface import ObjectInfo, ObjectNotFound
from origin.objects.keys import check_key, check_upload_id
from origin.objects.parts import ArrivedPart, PartDraft, PartsDamaged, PartsMissing
from origin.objects.s3 import PART_BYTES, S3Objects
from origin.objects.s3client import PreconditionFailed
from origin.objects.s3drafts import S3PartDraft

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

# The store copies parts together only if all but the last have at least this size (S3's own floor).
COPY_FLOOR_BYTES: Final = 5 * 1024 * 1024
CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part as the store lists it; the ETag pins the version that was listed."""

    number: int
    path: str
    size_bytes: int
    etag: str
    modified_at: float


class S3PartStore:
    """A PartStore whose URLs lead to the S3 store itself."""

    verifies = False

    def __init__(self, objects: S3Objects, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._connection = objects.connection
        self._clock = clock

    async def begin(self, upload_id: str) -> None:
        check_upload_id(upload_id)  # parts make their own way

    def part_url(self, upload_id: str, number: int, size_bytes: int, expires_at: float) -> str:
        """The length is signed, so the store refuses another one. The digest cannot be: it is not known yet."""
        path = f"{self._folder(upload_id)}{number:06d}"
        return self._connection.client.generate_presigned_url(
            "put_object",
            Params={"Bucket": self._connection.bucket, "Key": path, "ContentLength": size_bytes},
            ExpiresIn=max(1, int(expires_at - self._clock())),
        )

    async def arrived(self, upload_id: str) -> list[ArrivedPart]:
        stored = await self._connection.call(upload_id, self._stored, self._folder(upload_id))
        return [ArrivedPart(part.number, part.size_bytes, "", part.modified_at) for part in stored]

    async def draft(self, upload_id: str, number: int) -> PartDraft:
        return S3PartDraft(self._connection, f"{self._folder(upload_id)}{number:06d}", number)

    async def read_part(self, upload_id: str, part: ArrivedPart) -> AsyncIterator[bytes]:
        (stored,) = await self._chosen(upload_id, [part])
        chunks = self._chunks_of(stored)
        while chunk := await self._connection.call(stored.path, next, chunks, b""):
            yield chunk

    async def adopt(self, upload_id: str, number: int, source_id: str, part: ArrivedPart) -> None:
        draft = await self.draft(upload_id, number)
        try:
            async for chunk in self.read_part(source_id, part):
                await draft.write(chunk)
            await draft.settle()
        finally:
            await draft.abandon()

    async def free_bytes(self) -> int | None:
        return None

    async def complete(self, upload_id: str, key: str, parts: Sequence[ArrivedPart], content_type: str) -> ObjectInfo:
        if (made := await self._made_before(upload_id, check_key(key))) is None:
            chosen = await self._chosen(upload_id, parts)
            try:
                sha256 = await self._connection.call(upload_id, self._verified, upload_id, chosen, parts)
                size_bytes = sum(part.size_bytes for part in chosen)
                made = ObjectInfo(key, size_bytes, sha256, content_type, self._clock())
                await self._assemble(upload_id, made, chosen)
            except (PreconditionFailed, ObjectNotFound):
                # Sent again or dropped while it was read; perhaps by another call that completed the upload.
                if (made := await self._made_before(upload_id, key)) is None:
                    raise PartsMissing(upload_id, [part.number for part in parts]) from None
        await self.discard(upload_id)
        return made

    async def discard(self, upload_id: str) -> None:
        await self._connection.call(upload_id, self._delete_all, self._folder(upload_id))

    def _folder(self, upload_id: str) -> str:
        return self._connection.path(f"uploads/{check_upload_id(upload_id)}/")

    async def _made_before(self, upload_id: str, key: str) -> ObjectInfo | None:
        try:
            info, _, metadata = await self._objects.described(key)
        except ObjectNotFound:
            return None
        return info if metadata.get("upload-id") == upload_id else None

    async def _chosen(self, upload_id: str, parts: Sequence[ArrivedPart]) -> list[StoredPart]:
        stored = await self._connection.call(upload_id, self._stored, self._folder(upload_id))
        there = {(part.number, part.size_bytes): part for part in stored}
        missing = [part.number for part in parts if (part.number, part.size_bytes) not in there]
        if missing or not parts:
            raise PartsMissing(upload_id, missing or [1])
        return [there[part.number, part.size_bytes] for part in parts]

    def _stored(self, folder: str) -> list[StoredPart]:
        pages = self._connection.client.get_paginator("list_objects_v2").paginate(Bucket=self._connection.bucket, Prefix=folder)
        found = [
            StoredPart(int(name), entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"].timestamp())
            for page in pages
            for entry in page.get("Contents", [])
            if (name := entry["Key"].removeprefix(folder)).isdecimal()
        ]
        return sorted(found, key=lambda part: part.number)

    def _verified(self, upload_id: str, chosen: Sequence[StoredPart], parts: Sequence[ArrivedPart]) -> str:
        """SHA-256 of all parts, each checked against its own where it is known. Raises PartsDamaged."""
        whole = hashlib.sha256()
        damaged = []
        for stored, listed in zip(chosen, parts, strict=True):
            digest = hashlib.sha256()
            for chunk in self._chunks_of(stored):
                digest.update(chunk)
                whole.update(chunk)
            if listed.sha256 not in ("", digest.hexdigest()):
                damaged.append(listed.number)
        if damaged:
            raise PartsDamaged(upload_id, damaged)
        return whole.hexdigest()

    def _chunks_of(self, part: StoredPart) -> Iterator[bytes]:
        client, bucket = self._connection.client, self._connection.bucket
        with closing(client.get_object(Bucket=bucket, Key=part.path, IfMatch=part.etag)["Body"]) as body:
            while chunk := body.read(CHUNK_BYTES):
                yield chunk

    async def _assemble(self, upload_id: str, info: ObjectInfo, chosen: Sequence[StoredPart]) -> None:
        large = len(chosen) > 1 and all(part.size_bytes >= COPY_FLOOR_BYTES for part in chosen[:-1])
        if not large or not await self._connection.call(info.key, self._copy_together, upload_id, info, chosen):
            await self._objects.put_described(info, lambda: self._regrouped(chosen), {"upload-id": upload_id})

    def _copy_together(self, upload_id: str, info: ObjectInfo, chosen: Sequence[StoredPart]) -> bool:
        """False when the store does not copy: small ones take UploadPartCopy for an upload of an empty part."""
        client, bucket, path = self._connection.client, self._connection.bucket, self._connection.path(info.key)
        metadata = {"sha256": info.sha256, "modified-at": repr(info.modified_at), "upload-id": upload_id}
        begun = client.create_multipart_upload(Bucket=bucket, Key=path, ContentType=info.content_type, Metadata=metadata)
        try:
            done: list[CompletedPartTypeDef] = []
            for number, part in enumerate(chosen, start=1):
                copied = client.upload_part_copy(
                    Bucket=bucket,
                    Key=path,
                    UploadId=begun["UploadId"],
                    PartNumber=number,
                    CopySource={"Bucket": bucket, "Key": part.path},
                    CopySourceIfMatch=part.etag,
                )
                if "ETag" not in copied.get("CopyPartResult", {}):
                    client.abort_multipart_upload(Bucket=bucket, Key=path, UploadId=begun["UploadId"])
                    return False
                done.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
            client.complete_multipart_upload(Bucket=bucket, Key=path, UploadId=begun["UploadId"], MultipartUpload={"Parts": done})
        except BaseException:
            client.abort_multipart_upload(Bucket=bucket, Key=path, UploadId=begun["UploadId"])
            raise
        return True

    def _regrouped(self, chosen: Sequence[StoredPart]) -> Iterator[bytes]:
        gathered = bytearray()
        for part in chosen:
            for chunk in self._chunks_of(part):
                gathered += chunk
                while len(gathered) >= PART_BYTES:
                    yield bytes(gathered[:PART_BYTES])
                    del gathered[:PART_BYTES]
        if gathered:
            yield bytes(gathered)

    def _delete_all(self, folder: str) -> None:
        # One by one: the batch form needs a checksum that stores disagree about.
        for part in self._stored(folder):
            self._connection.client.delete_object(Bucket=self._connection.bucket, Key=part.path)
