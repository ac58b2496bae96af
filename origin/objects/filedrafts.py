"""A part that the origin itself writes, chunk by chunk, into the folder of its upload: for clients that send a stream."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from origin.objects.files import disk_errors_mapped, in_thread
from origin.objects.parts import ArrivedPart


class FilePartDraft:
    """Made by FilePartStore.draft. `settled` gives the file its name, durably."""

    def __init__(self, folder: Path, number: int, settled: Callable[[Path, Path], None]) -> None:
        self._path = folder / f".{secrets.token_hex(8)}"
        self._number = number
        self._settled = settled
        self._digest = hashlib.sha256()
        self._file: BinaryIO = open(self._path, "xb")  # noqa: SIM115 - closed by `settle` or `abandon`
        self.size_bytes = 0

    async def write(self, chunk: bytes) -> None:
        await in_thread(self._write, chunk)

    def _write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size_bytes += len(chunk)

    async def settle(self) -> ArrivedPart:
        return await in_thread(self._settle)

    def _settle(self) -> ArrivedPart:
        self._file.flush()
        os.fsync(self._file.fileno())
        arrived_at = os.fstat(self._file.fileno()).st_mtime
        self._file.close()
        sha256 = self._digest.hexdigest()
        self._settled(self._path, self._path.with_name(f"{self._number}.{sha256}"))
        return ArrivedPart(self._number, self.size_bytes, sha256, arrived_at)

    async def abandon(self) -> None:
        await asyncio.to_thread(self._abandon)

    def _abandon(self) -> None:
        with disk_errors_mapped():
            try:
                self._file.close()
            except OSError:
                pass  # what was still to be written finds no room: nobody wants it
            finally:
                self._path.unlink(missing_ok=True)
