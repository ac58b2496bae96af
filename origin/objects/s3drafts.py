"""A part that the origin itself sends to an S3 store, for clients that send a stream: gathered in a temporary file first,
because S3 takes no object whose length and digest are not known when it begins."""

from __future__ import annotations

import base64
import hashlib
import tempfile
import time
from typing import BinaryIO, Final

from origin.objects.files import in_thread
from origin.objects.parts import ArrivedPart
from origin.objects.s3client import S3Connection

IN_MEMORY_BYTES: Final = 1024 * 1024  # what grows beyond goes to the disk


class S3PartDraft:
    """Made by S3PartStore.draft. S3 replaces an object at once, so that an older version of the part is there or the new one."""

    def __init__(self, connection: S3Connection, path: str, number: int) -> None:
        self._connection = connection
        self._path = path
        self._number = number
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._file: BinaryIO = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # type: ignore[assignment]  # noqa: SIM115
        self.size_bytes = 0

    async def write(self, chunk: bytes) -> None:
        await in_thread(self._write, chunk)

    def _write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._sha256.update(chunk)
        self._md5.update(chunk)
        self.size_bytes += len(chunk)

    async def settle(self) -> ArrivedPart:
        await self._connection.call(self._path, self._put)
        return ArrivedPart(self._number, self.size_bytes, self._sha256.hexdigest(), time.time())

    def _put(self) -> None:
        self._file.seek(0)
        self._connection.client.put_object(
            Bucket=self._connection.bucket,
            Key=self._path,
            Body=self._file,
            ContentLength=self.size_bytes,
            ContentMD5=base64.b64encode(self._md5.digest()).decode("ascii"),  # verified by every store, unlike SHA-256
        )

    async def abandon(self) -> None:
        await in_thread(self._file.close)
