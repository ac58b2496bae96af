"""One object in one file: body, then a footer, so that a file that was cut anywhere has no valid end.

    body | CRC-32 of each MiB of the body (4 bytes each, big-endian) | metadata (JSON)
         | magic "HWOBJ001" | body length (8) | metadata length (4) | CRC-32 of CRCs + metadata (4)

A file gets its name when it is whole (draft.py). It is not fsynced: after a power cut the checksums find what the disk lost,
and the object is fetched again. The key stands in the metadata, so a file under another object's name is never taken for it.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from headwater.cacheproxy.store.metadata import Metadata

MAGIC = b"HWOBJ001"
CHECKED_BYTES = 1024 * 1024
_TRAILER = struct.Struct(">8sQII")
CRC = struct.Struct(">I")
LARGEST_FOOTER = 16 * 1024 * 1024


class Damaged(Exception):
    """The file is not the object that was written."""


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object whose footer was checked; the body is checked MiB by MiB as it is read. Owns its file descriptor."""

    descriptor: int
    metadata: Metadata
    checksums: bytes

    def read_block(self, index: int) -> bytes:
        """The MiB number `index` of the body, checked. Raises Damaged."""
        start = index * CHECKED_BYTES
        wanted = min(CHECKED_BYTES, self.metadata.size_bytes - start)
        block = os.pread(self.descriptor, wanted, start)
        (expected,) = CRC.unpack_from(self.checksums, index * CRC.size)
        if len(block) != wanted or zlib.crc32(block) != expected:
            raise Damaged(f"checksum of block {index} differs")
        return block

    def read_all(self) -> bytes:
        return b"".join(self.read_block(index) for index in range(len(self.checksums) // CRC.size))

    def close(self) -> None:
        os.close(self.descriptor)


def footer(metadata: Metadata, checksums: bytes) -> bytes:
    """What stands behind a body whose blocks have these CRCs."""
    text = metadata.to_json()
    covered = checksums + text
    return covered + _TRAILER.pack(MAGIC, metadata.size_bytes, len(text), zlib.crc32(covered))


def open_object(path: Path | str, key: str | None = None) -> OpenObject:
    """The object under `path`, its footer checked; with a `key`, no other. Raises FileNotFoundError, Damaged or OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        metadata, checksums = _read_footer(descriptor)
        if key is not None and metadata.key != key:
            raise Damaged(f"holds {metadata.key!r}")
        return OpenObject(descriptor, metadata, checksums)
    except BaseException:
        os.close(descriptor)
        raise


def _read_footer(descriptor: int) -> tuple[Metadata, bytes]:
    file_size = os.fstat(descriptor).st_size
    trailer = os.pread(descriptor, _TRAILER.size, max(0, file_size - _TRAILER.size))
    if len(trailer) != _TRAILER.size:
        raise Damaged("too short")
    magic, length, text_length, expected = _TRAILER.unpack(trailer)
    checksums_length = -(-length // CHECKED_BYTES) * CRC.size
    covered_length = checksums_length + text_length
    if magic != MAGIC or covered_length > LARGEST_FOOTER or length + covered_length + _TRAILER.size != file_size:
        raise Damaged("no valid end")
    covered = os.pread(descriptor, covered_length, length)
    if len(covered) != covered_length or zlib.crc32(covered) != expected:
        raise Damaged("checksum of the footer differs")
    try:
        metadata = Metadata.from_json(covered[checksums_length:])
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"metadata unreadable: {error}") from error
    if metadata.size_bytes != length:
        raise Damaged("lengths differ")
    return metadata, covered[:checksums_length]


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Raises OSError, a full disk among them."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
