"""A body in memory, in the form in which its readers take it.

Bytes that are sent are copied into the kernel, once for each client. Pages of a memfd the kernel takes as they lie
(`sendfile`), which of a large body saves half of what an answer costs. TLS on the other hand reads bytes. So a body lies in the
form that was wanted last, several times in a row; who wants the other one meanwhile gets a copy, or does without. Either way it
takes its size once.
"""

from __future__ import annotations

import os
import resource
from typing import Final

from headwater.cacheproxy.metrics import RAM_PAGES

PAGED_FROM_BYTES: Final = 128 * 1024  # below this, two calls cost more than the copy
PATIENCE: Final = (
    8  # so many readers in a row want the other form before it is made: readers of both kinds must not turn it about
)
_FILES_SHARE: Final = 4  # of the files that the process may open, one in so many: connections need them more


class Pages:
    """Bytes that never change, in a memfd of their own, closed when nobody holds it any more: transfers under way do."""

    __slots__ = ("_descriptor", "size_bytes")
    open_now = 0

    def __init__(self, data: bytes) -> None:
        """Raises OSError: no files left, no memory."""
        self._descriptor = -1
        self.size_bytes = len(data)
        if Pages.open_now >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _FILES_SHARE:
            raise OSError("enough files are open for bodies")
        self._descriptor = os.memfd_create("headwater-body")
        Pages.open_now += 1
        RAM_PAGES.set(Pages.open_now)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def fileno(self) -> int:
        return self._descriptor

    def read(self, first: int, count: int) -> bytes:
        """A copy; from memory, so nothing waits."""
        return os.pread(self._descriptor, count, first)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            Pages.open_now -= 1
            RAM_PAGES.set(Pages.open_now)
            os.close(self._descriptor)


class RamBody:
    """One whole body. For the event loop's thread only."""

    __slots__ = ("_otherwise", "_pages", "as_bytes", "size_bytes")

    def __init__(self, data: bytes) -> None:
        self.size_bytes = len(data)
        self.as_bytes: bytes | None = data  # while it lies so, as a small one always does
        self._pages: Pages | None = None
        self._otherwise = 0  # how often in a row the other form was wanted

    @property
    def data(self) -> bytes:
        data = self.as_bytes
        if data is not None:
            self._otherwise = 0
            return data
        assert self._pages is not None
        data = self._pages.read(0, self.size_bytes)
        self._otherwise += 1
        if self._otherwise >= PATIENCE:
            self.as_bytes, self._pages, self._otherwise = data, None, 0
        return data

    def part(self, first: int, last: int) -> bytes:
        """The bytes `first` to `last`, both included."""
        if self.as_bytes is not None:
            return self.as_bytes[first : last + 1]
        assert self._pages is not None
        return self._pages.read(first, last + 1 - first)

    def pages_or_data(self) -> Pages | bytes:
        """The body for who can send pages: as such, or as bytes while it lies so."""
        if self._pages is not None:
            self._otherwise = 0
            return self._pages
        assert self.as_bytes is not None
        if self.size_bytes < PAGED_FROM_BYTES:
            return self.as_bytes
        self._otherwise += 1
        if self._otherwise < PATIENCE:
            return self.as_bytes
        self._otherwise = 0
        try:
            self._pages = Pages(self.as_bytes)
        except (OSError, AttributeError):  # or not a Linux; it is tried again when as many readers have come
            return self.as_bytes
        self.as_bytes = None
        return self._pages
