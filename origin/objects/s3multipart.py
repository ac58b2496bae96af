"""S3's multipart uploads of one key: the blocking calls, each one request or one obvious loop. Callers run them in threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from origin.objects.s3client import S3Connection, content_md5

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

CHUNK_BYTES: Final = 1024 * 1024
COPY_AT_ONCE_BYTES: Final = 5 * 1024**3  # S3's limit for a copy in one request
COPY_PIECE_BYTES: Final = 1024**3
GATHERED_BYTES: Final = 16 * 1024 * 1024  # times S3's 10,000 parts is 156 GiB
_GONE: Final = frozenset({"NoSuchUpload", "404", "NoSuchKey", "NotFound"})


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part as the store lists it. `etag` is what a completion has to name; usually the body's MD5 in hex, in quotes."""

    number: int
    size_bytes: int
    etag: str
    modified_at: float

    @property
    def md5(self) -> str:
        """Hex; "" where the store's ETag is something else."""
        bare = self.etag.strip('"')
        return bare if len(bare) == 32 and set(bare) <= set("0123456789abcdef") else ""


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes that part `number` is made of: `first` to `first + size_bytes` of the object at `path`."""

    number: int
    path: str
    first: int
    size_bytes: int

    @property
    def range(self) -> str:
        return f"bytes={self.first}-{self.first + self.size_bytes - 1}"


class Multipart:
    """Multipart uploads in one bucket. `path` is always the whole key, prefix included."""

    def __init__(self, connection: S3Connection) -> None:
        self._client = connection.client
        self._bucket = connection.bucket

    def create(self, path: str, content_type: str, metadata: Mapping[str, str]) -> str:
        begun = self._client.create_multipart_upload(Bucket=self._bucket, Key=path, ContentType=content_type, Metadata=metadata)
        return begun["UploadId"]

    def signed_part_url(self, path: str, upload_id: str, number: int, size_bytes: int, md5_base64: str, lifetime_s: int) -> str:
        """The length and the MD5 are signed: the store refuses every other body."""
        part = {"Bucket": self._bucket, "Key": path, "UploadId": upload_id, "PartNumber": number}
        signed = {"ContentLength": size_bytes, "ContentMD5": md5_base64}
        return self._client.generate_presigned_url("upload_part", Params={**part, **signed}, ExpiresIn=lifetime_s)

    def parts(self, path: str, upload_id: str) -> list[StoredPart] | None:
        """What has arrived, by number; None when there is no such multipart upload (any more)."""
        try:
            pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=path, UploadId=upload_id)
            found = [
                StoredPart(part["PartNumber"], part["Size"], part["ETag"], part["LastModified"].timestamp())
                for page in pages
                for part in page.get("Parts", [])
            ]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _GONE:
                return None
            raise
        return sorted(found, key=lambda part: part.number)

    def complete(self, path: str, upload_id: str, parts: Iterable[StoredPart]) -> None:
        done: list[CompletedPartTypeDef] = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        self._client.complete_multipart_upload(Bucket=self._bucket, Key=path, UploadId=upload_id, MultipartUpload={"Parts": done})

    def abort(self, path: str, upload_id: str) -> None:
        """Also when it is gone."""
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=path, UploadId=upload_id)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _GONE:
                raise

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """(path, upload id, when it was begun) of every multipart upload below `prefix`."""
        for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix):
            for upload in page.get("Uploads", []):
                yield upload["Key"], upload["UploadId"], upload["Initiated"]

    def chunks(self, span: Span) -> Iterator[bytes]:
        """The span's bytes. Servers that answer a range with the whole object are understood."""
        if not span.size_bytes:
            return
        answer = self._client.get_object(Bucket=self._bucket, Key=span.path, Range=span.range)
        skip = 0 if "ContentRange" in answer else span.first
        wanted = span.size_bytes
        with closing(answer["Body"]) as body:
            while wanted and (chunk := body.read(CHUNK_BYTES)):
                useful = chunk[skip : skip + wanted]
                skip = max(0, skip - len(chunk))
                wanted -= len(useful)
                if useful:
                    yield useful

    def copied(
        self, spans: Sequence[Span], target: str, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[str, list[StoredPart]]:
        """(upload id, parts) of a new upload of `target`; the bytes come through us where the store does not copy."""
        for make in (self.copy_part, self.carry_part):
            upload_id = self.create(target, content_type, metadata)
            try:
                etags = list(takewhile(bool, (make(span, target, upload_id) for span in spans)))
            except BaseException:
                with suppress(ClientError):
                    self.abort(target, upload_id)
                raise
            if len(etags) == len(spans):
                made = zip(spans, etags, strict=True)
                return upload_id, [StoredPart(span.number, span.size_bytes, etag, 0.0) for span, etag in made]
            self.abort(target, upload_id)
        raise AssertionError("parts that we send have an ETag")

    def gathered(self, spans: Sequence[Span], target: str, content_type: str) -> tuple[str, list[StoredPart]]:
        """As `copied`, for spans too small to be parts: their bytes go through this process."""
        upload_id = self.create(target, content_type, {})
        done: list[StoredPart] = []
        held = bytearray()
        try:
            for chunk in chain.from_iterable(map(self.chunks, spans)):
                held += chunk
                if len(held) >= GATHERED_BYTES:
                    done.append(self._send_part(target, upload_id, len(done) + 1, bytes(held)))
                    held.clear()
            if held or not done:
                done.append(self._send_part(target, upload_id, len(done) + 1, bytes(held)))
        except BaseException:
            with suppress(ClientError):
                self.abort(target, upload_id)
            raise
        return upload_id, done

    def _send_part(self, target: str, upload_id: str, number: int, body: bytes) -> StoredPart:
        sent = self._client.upload_part(
            Bucket=self._bucket, Key=target, UploadId=upload_id, PartNumber=number, Body=body, ContentMD5=content_md5(body)
        )
        return StoredPart(number, len(body), sent["ETag"], 0.0)

    def copy_part(self, span: Span, target: str, upload_id: str) -> str:
        """The new part's ETag; "" when the store does not copy: small ones take the request for one with an empty body."""
        answer = self._client.upload_part_copy(
            Bucket=self._bucket,
            Key=target,
            UploadId=upload_id,
            PartNumber=span.number,
            CopySource={"Bucket": self._bucket, "Key": span.path},
            CopySourceRange=span.range,
        )
        return answer.get("CopyPartResult", {}).get("ETag", "")

    def carry_part(self, span: Span, target: str, upload_id: str) -> str:
        """The new part's ETag; its bytes go through this process."""
        return self._send_part(target, upload_id, span.number, b"".join(self.chunks(span))).etag

    def copy(self, source: str, target: str, size_bytes: int, content_type: str, metadata: Mapping[str, str]) -> None:
        """A copy with other metadata, on the store's side."""
        if size_bytes <= COPY_AT_ONCE_BYTES:
            self._client.copy_object(
                Bucket=self._bucket,
                Key=target,
                CopySource={"Bucket": self._bucket, "Key": source},
                ContentType=content_type,
                Metadata=metadata,
                MetadataDirective="REPLACE",
            )
            return
        spans = [
            Span(number, source, first, min(COPY_PIECE_BYTES, size_bytes - first))
            for number, first in enumerate(range(0, size_bytes, COPY_PIECE_BYTES), start=1)
        ]
        upload_id, parts = self.copied(spans, target, content_type, metadata)
        self.complete(target, upload_id, parts)
