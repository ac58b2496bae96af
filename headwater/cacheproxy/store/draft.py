"""An object file that is being written. It has no name until it is whole, so a killed process leaves nothing behind."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Final

from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.objectfile import CHECKED_BYTES, CRC, Damaged, footer, write_all

_NO_NAMELESS_FILES: Final = frozenset((errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT))


class Draft:
    """Bytes are appended in order and may be read back meanwhile. Owns its file descriptor. Blocking.

    A fill that is cancelled closes its draft while a thread may still be at work on it: what comes after `close` fails with
    EBADF here instead of reaching whatever file the number means by then.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        self.length = 0
        self._name: str | None = None
        self._checksums = bytearray()
        self._checksum = 0  # of the last block so far
        self._descriptor = -1
        self._lock = threading.Lock()
        if hasattr(os, "O_TMPFILE"):
            try:
                self._descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o644)
            except OSError as error:
                if error.errno not in _NO_NAMELESS_FILES:
                    raise
        if self._descriptor < 0:  # a file system without nameless files
            self._descriptor, self._name = tempfile.mkstemp(dir=folder)

    def append(self, data: bytes) -> None:
        """Raises OSError; what was written of `data` then is overwritten by the next attempt."""
        with self._lock:
            write_all(self._open(), data, self.length)
            view = memoryview(data)
            while view:
                block = view[: CHECKED_BYTES - self.length % CHECKED_BYTES]
                self._checksum = zlib.crc32(block, self._checksum)
                self.length += len(block)
                view = view[len(block) :]
                if self.length % CHECKED_BYTES == 0:
                    self._checksums += CRC.pack(self._checksum)
                    self._checksum = 0

    def read(self, offset: int, count: int) -> bytes:
        with self._lock:
            return os.pread(self._open(), count, offset)

    def footer(self, metadata: Metadata) -> bytes:
        """What would make the file an object. Raises Damaged when the body has another length."""
        if self.length != metadata.size_bytes:
            raise Damaged(f"{self.length} bytes instead of {metadata.size_bytes}")
        checksums = bytes(self._checksums)
        if self.length % CHECKED_BYTES:
            checksums += CRC.pack(self._checksum)
        return footer(metadata, checksums)

    def complete(self, end: bytes) -> int:
        """Writes the footer behind the body; the file's size. Raises OSError."""
        with self._lock:
            write_all(self._open(), end, self.length)
        return self.length + len(end)

    def become(self, path: str, aside: str) -> None:
        """Gives the file the name `path` in one step, whatever had it before; `aside` is a free name beside it."""
        with self._lock:
            if self._name is None:
                descriptor = self._open()
                # linkat(2) follows the link to the nameless file only where a folder is given, though the path needs none.
                os.link(f"/proc/self/fd/{descriptor}", aside, src_dir_fd=descriptor)
            else:
                os.rename(self._name, aside)
                self._name = None
        try:
            os.rename(aside, path)
        except BaseException:
            os.unlink(aside)
            raise

    def close(self) -> None:
        """A file that did not become an object is gone after this."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            if self._name is not None:
                os.unlink(self._name)
                self._name = None

    def _open(self) -> int:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, "the draft was closed")
        return self._descriptor
