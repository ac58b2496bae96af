"""Objects in any S3-compatible store. Digest, size, type and time travel as metadata; there are no ACLs.

No S3 server can be relied on to verify SHA-256 (docs of many promise it), so each request body is sent with Content-MD5, which
all of them verify, and the SHA-256 is ours: written as metadata, and checked by whoever reads.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from headwater.settings.origin import S3Store
from origin.objects.interface import ObjectInfo, ObjectNotFound, ObjectStoreFailed, OpenedObject
from origin.objects.keys import check_key, check_prefix
from origin.objects.s3client import PreconditionFailed, S3Connection, content_md5

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, ListObjectsV2OutputTypeDef

CHUNK_BYTES: Final = 512 * 1024
DRAIN_BYTES: Final = 4 * 1024 * 1024
Parts: TypeAlias = "list[CompletedPartTypeDef]"
# Longer objects are sent in parts of this size; 10,000 of them (S3's limit) are 156 GiB.
PART_BYTES: Final = 16 * 1024 * 1024
STATS_AT_ONCE: Final = 8


class OpenedS3Object:
    """A version pinned by its ETag: one that was replaced meanwhile gives ObjectStoreFailed, never other bytes."""

    def __init__(self, connection: S3Connection, info: ObjectInfo, etag: str) -> None:
        self.info = info
        self._connection = connection
        self._etag = etag

    async def read(self, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        end = self.info.size_bytes if last is None else min(last + 1, self.info.size_bytes)
        if first >= end:
            return
        whole = first == 0 and end == self.info.size_bytes
        try:
            asked = None if whole else f"bytes={first}-{end - 1}"
            body, ranged = await self._connection.call(self.info.key, self._get, asked)
        except PreconditionFailed:
            raise ObjectStoreFailed(f"{self.info.key} was replaced while it was read") from None
        with closing(body):
            # Some servers answer a range with the whole object (200): what comes before it is skipped.
            skip = 0 if ranged else first
            wanted = end - first
            while wanted:
                chunk = await self._connection.call(self.info.key, body.read, CHUNK_BYTES)
                if not chunk:
                    raise ObjectStoreFailed(f"{self.info.key} broke off {wanted} bytes before its end")
                useful = chunk[skip : skip + wanted]
                skip = max(0, skip - len(chunk))
                wanted -= len(useful)
                if useful:
                    yield useful
            if not ranged:
                # What such a server sends after the range is read and dropped: cut off, it may not be well for a while.
                await self._connection.call(self.info.key, body.read, DRAIN_BYTES)

    def _get(self, asked: str | None) -> tuple[StreamingBody, bool]:
        """(body, whether it holds just the range asked for and not the whole object)."""
        client, bucket, path = self._connection.client, self._connection.bucket, self._connection.path(self.info.key)
        if asked is None:
            answer = client.get_object(Bucket=bucket, Key=path, IfMatch=self._etag)
        else:
            answer = client.get_object(Bucket=bucket, Key=path, IfMatch=self._etag, Range=asked)
        # For servers that do not know If-Match on GET.
        if lower_names(answer["Metadata"]).get("sha256") != self.info.sha256:
            answer["Body"].close()
            raise PreconditionFailed(self.info.key)
        return answer["Body"], "ContentRange" in answer


class S3Objects:
    """A TierStore in a bucket."""

    def __init__(self, settings: S3Store, clock: Callable[[], float] = time.time) -> None:
        self.connection = S3Connection(settings)
        self._clock = clock

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectInfo:
        size_bytes, sha256 = await asyncio.to_thread(_measured, path)
        info = ObjectInfo(check_key(key), size_bytes, sha256, content_type, self._clock())
        await self.connection.call(key, self._send, info, lambda: _pieces_of(path))
        return info

    async def put_bytes(self, key: str, body: bytes, content_type: str) -> ObjectInfo:
        info = ObjectInfo(check_key(key), len(body), hashlib.sha256(body).hexdigest(), content_type, self._clock())
        await self.connection.call(key, self._send, info, lambda: _slices(body))
        return info

    async def put_described(
        self, info: ObjectInfo, pieces: Callable[[], Iterable[bytes]], extra: Mapping[str, str], *, only_if_absent: bool = False
    ) -> None:
        """Stores what `pieces()` gives, called in a thread, each at most PART_BYTES and all but the last of equal size."""
        await self.connection.call(info.key, self._send, info, pieces, extra, only_if_absent=only_if_absent)

    async def stat(self, key: str) -> ObjectInfo:
        return (await self.described(key))[0]

    async def described(self, key: str) -> tuple[ObjectInfo, str, Mapping[str, str]]:
        """(info, ETag, metadata). Raises ObjectNotFound."""
        connection = self.connection
        head = await connection.call(
            key, lambda: connection.client.head_object(Bucket=connection.bucket, Key=connection.path(check_key(key)))
        )
        metadata = lower_names(head["Metadata"])
        try:
            info = ObjectInfo(key, head["ContentLength"], metadata["sha256"], head["ContentType"], float(metadata["modified-at"]))
        except (KeyError, ValueError) as error:
            raise ObjectStoreFailed(f"{key} in bucket {connection.bucket!r} was not written by Headwater: no digest") from error
        return info, head["ETag"], metadata

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[OpenedObject]:
        info, etag, _ = await self.described(key)
        yield OpenedS3Object(self.connection, info, etag)

    async def read(self, key: str, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        async with self.opened(key) as opened:
            async for chunk in opened.read(first, last):
                yield chunk

    async def delete(self, key: str) -> None:
        connection = self.connection
        with suppress(ObjectNotFound):
            path = connection.path(check_key(key))
            await connection.call(key, lambda: connection.client.delete_object(Bucket=connection.bucket, Key=path))

    async def delete_version(self, info: ObjectInfo) -> bool:
        # Stores that do not know If-Match on DELETE leave the instant between this look and the delete open.
        connection = self.connection
        try:
            present, etag, _ = await self.described(info.key)
            if not present.same_version(info):
                return False
            path = connection.path(info.key)
            await connection.call(
                info.key, lambda: connection.client.delete_object(Bucket=connection.bucket, Key=path, IfMatch=etag)
            )
        except (ObjectNotFound, PreconditionFailed):
            return False
        return True

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """One HEAD per object, some at once: a listing does not carry digests."""
        connection = self.connection
        path = connection.path(check_prefix(prefix))
        token: str | None = None
        while True:
            page = await connection.call(prefix, self._page, path, token)
            keys = sorted(connection.key(entry["Key"]) for entry in page.get("Contents", []))
            for start in range(0, len(keys), STATS_AT_ONCE):
                for info in await asyncio.gather(*(self._stat_or_none(key) for key in keys[start : start + STATS_AT_ONCE])):
                    if info is not None:
                        yield info
            token = page.get("NextContinuationToken")
            if token is None:
                return

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        with tempfile.NamedTemporaryFile(prefix="headwater-object-") as file:
            digest = hashlib.sha256()
            async with self.opened(key) as opened:
                async for chunk in opened.read():
                    await asyncio.to_thread(file.write, chunk)
                    digest.update(chunk)
            await asyncio.to_thread(file.flush)
            if digest.hexdigest() != opened.info.sha256:
                raise ObjectStoreFailed(f"{key} is damaged: its digest is {digest.hexdigest()}, not {opened.info.sha256}")
            yield Path(file.name)

    async def adopt(self, source: OpenedObject) -> bool:
        with tempfile.NamedTemporaryFile(prefix="headwater-move-") as file:
            digest = hashlib.sha256()
            async for chunk in source.read():
                await asyncio.to_thread(file.write, chunk)
                digest.update(chunk)
            await asyncio.to_thread(file.flush)
            if digest.hexdigest() != source.info.sha256:
                raise ObjectStoreFailed(f"{source.info.key} is damaged where it was read: its digest is {digest.hexdigest()}")
            # For stores that do not know If-None-Match on PUT.
            if await self._stat_or_none(source.info.key) is not None:
                return False
            try:
                await self.put_described(source.info, lambda: _pieces_of(Path(file.name)), {}, only_if_absent=True)
            except PreconditionFailed:
                return False
        return True

    async def sweep(self, older_than_s: float) -> int:
        """Aborts multipart uploads that nobody finished; those of creators have days, and a sweep of their own."""
        before = datetime.fromtimestamp(time.time() - older_than_s, UTC)
        return await self.connection.call("", self._abort_older, before)

    async def _stat_or_none(self, key: str) -> ObjectInfo | None:
        try:
            return await self.stat(key)
        except ObjectNotFound:
            return None  # deleted since it was listed, or no key of ours

    def _page(self, path: str, token: str | None) -> ListObjectsV2OutputTypeDef:
        client, bucket = self.connection.client, self.connection.bucket
        if token is None:
            return client.list_objects_v2(Bucket=bucket, Prefix=path)
        return client.list_objects_v2(Bucket=bucket, Prefix=path, ContinuationToken=token)

    def _abort_older(self, before: datetime) -> int:
        client, bucket = self.connection.client, self.connection.bucket
        aborted = 0
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=self.connection.path("")):
            for upload in page.get("Uploads", []):
                if upload["Initiated"] < before and not upload["Key"].startswith(self.connection.path("uploads/")):
                    client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                    aborted += 1
        return aborted

    def _send(
        self,
        info: ObjectInfo,
        pieces: Callable[[], Iterable[bytes]],
        extra: Mapping[str, str] | None = None,
        *,
        only_if_absent: bool = False,
    ) -> None:
        metadata = {"sha256": info.sha256, "modified-at": repr(info.modified_at), **(extra or {})}
        bodies = iter(pieces())
        first = next(bodies, b"")
        if len(first) == info.size_bytes:
            self._send_at_once(info, first, metadata, only_if_absent)
        else:
            self._send_in_parts(info, _chained(first, bodies), metadata, only_if_absent)

    def _send_at_once(self, info: ObjectInfo, body: bytes, metadata: Mapping[str, str], only_if_absent: bool) -> None:
        condition: dict[str, str] = {"IfNoneMatch": "*"} if only_if_absent else {}
        self.connection.client.put_object(
            Bucket=self.connection.bucket,
            Key=self.connection.path(info.key),
            Body=body,
            ContentType=info.content_type,
            ContentMD5=content_md5(body),
            Metadata=metadata,
            **condition,  # type: ignore[arg-type]
        )

    def _send_in_parts(
        self, info: ObjectInfo, bodies: Iterable[bytes], metadata: Mapping[str, str], only_if_absent: bool
    ) -> None:
        client, bucket, path = self.connection.client, self.connection.bucket, self.connection.path(info.key)
        begun = client.create_multipart_upload(Bucket=bucket, Key=path, ContentType=info.content_type, Metadata=metadata)
        upload_id = begun["UploadId"]
        condition: dict[str, str] = {"IfNoneMatch": "*"} if only_if_absent else {}
        try:
            done: Parts = []
            for number, body in enumerate(bodies, start=1):
                sent = client.upload_part(
                    Bucket=bucket, Key=path, UploadId=upload_id, PartNumber=number, Body=body, ContentMD5=content_md5(body)
                )
                done.append({"PartNumber": number, "ETag": sent["ETag"]})
            client.complete_multipart_upload(
                Bucket=bucket,
                Key=path,
                UploadId=upload_id,
                MultipartUpload={"Parts": done},
                **condition,  # type: ignore[arg-type]
            )
        except BaseException:
            client.abort_multipart_upload(Bucket=bucket, Key=path, UploadId=upload_id)
            raise


def lower_names(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata as it was written: header names lose their case on the way, and servers give it back differently."""
    return {name.lower(): text for name, text in metadata.items()}


def _measured(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    size_bytes = 0
    for piece in _pieces_of(path):
        digest.update(piece)
        size_bytes += len(piece)
    return size_bytes, digest.hexdigest()


def _pieces_of(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(PART_BYTES):
            yield piece


def _slices(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PART_BYTES):
        yield body[start : start + PART_BYTES]


def _chained(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
