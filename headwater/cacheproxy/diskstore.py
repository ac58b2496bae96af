"""The disk half of the store: one file per object, a byte budget, the least recently used first out. Blocking: run in threads.

A broken disk is never an error page: every trouble is counted, the object is fetched again, and what is damaged is removed.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from headwater.cacheproxy.metadata import Metadata
from headwater.cacheproxy.metrics import DISK_BYTES, DISK_OBJECTS, DISK_TROUBLES, EVICTIONS
from headwater.cacheproxy.objectfile import Damaged, OpenObject, open_object, write_object
from headwater.cacheproxy.shares import WHOLE, Share, file_name
from headwater.runtime.logs import Log

FOOTER_ALLOWANCE_BYTES = 4096  # what a file takes beside its body, counted against the budget


class DiskStore:
    """Files named by the SHA-256 of their key. What the folder holds at start is found again: the store is warm at once.

    Of several workers each keeps the files of its `share`, and reads those of the others where they lie.
    """

    def __init__(self, folder: Path, budget_bytes: int, log: Log, share: Share = WHOLE) -> None:
        self._objects = folder / "objects"
        self._drafts = folder / "drafts" if share.whole else folder / "drafts" / str(share.index)
        self._share = share
        self._keeps = False  # not before `take_over`: until then a worker that is being replaced keeps the share
        self._budget_bytes = budget_bytes
        self._log = log
        self._sizes: OrderedDict[str, int] = OrderedDict()  # file name to bytes, least recently used first
        self._used_bytes = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def start(self, *, keeps: bool = True) -> None:
        """Makes the folders and takes over, or (not `keeps`) only reads what lies there until `take_over`."""
        for folder in (self._objects, self._drafts):
            folder.mkdir(parents=True, exist_ok=True)
        if keeps:
            self.take_over()

    def take_over(self) -> None:
        """Becomes the keeper of the share: removes drafts of a killed process, and counts what is there, oldest use first."""
        for draft in self._drafts.rglob("*"):
            if draft.is_file():
                draft.unlink(missing_ok=True)
        found: list[tuple[float, str, int]] = []
        for shelf in os.scandir(self._objects):
            if shelf.is_dir(follow_symlinks=False):
                for entry in os.scandir(shelf.path):
                    if not self._share.owns_file(entry.name):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, entry.name, status.st_size))
        with self._lock:
            self._sizes = OrderedDict((name, size) for _, name, size in sorted(found))
            self._used_bytes = sum(self._sizes.values())
            self._keeps = True
        self._make_room(0)
        self._count()

    def may_hold(self, key: str) -> bool:
        """Whether a look on disk is worth it: the index names the object, or another worker's would; does not block."""
        name = file_name(key)
        return name in self._sizes or not self._is_kept_here(name)

    def keeps(self, key: str) -> bool:
        """Whether the object would be written here."""
        return self._is_kept_here(file_name(key))

    def open(self, key: str) -> OpenObject | None:
        """The object, its footer checked; None when it is not there or damaged. The caller closes it."""
        name = file_name(key)
        kept_here = self._is_kept_here(name)
        with self._lock:
            if name in self._sizes:
                self._sizes.move_to_end(name)
            elif kept_here:
                return None
        try:
            return open_object(self._path_of(name), key)
        except FileNotFoundError:
            self._forget(name)
            if kept_here:
                self._trouble("file_missing", key)
        except Damaged as error:
            self.discard(key)
            self._trouble("damaged", key, error)
        except OSError as error:
            self._trouble("read_failed", key, error)
        return None

    def write(self, metadata: Metadata, body: Iterable[bytes]) -> bool:
        """Stores an object, making room first. False when another worker keeps it, it does not fit or the disk would not
        take it."""
        name = file_name(metadata.key)
        needed = metadata.size_bytes + FOOTER_ALLOWANCE_BYTES
        if needed > self._budget_bytes or not self._is_kept_here(name):
            return False
        path = self._path_of(name)
        try:
            self._make_room(needed)
            path.parent.mkdir(exist_ok=True)
            write_object(path, self._drafts / f"{name}.{next(self._numbers)}", metadata, body)
            size = path.stat().st_size
        except (OSError, Damaged) as error:
            self._trouble("write_failed", metadata.key, error)
            return False
        with self._lock:
            self._used_bytes += size - self._sizes.pop(name, 0)
            self._sizes[name] = size
        self._count()
        return True

    def discard(self, key: str) -> None:
        name = file_name(key)
        self._forget(name)
        try:
            self._path_of(name).unlink(missing_ok=True)
        except OSError as error:
            self._trouble("remove_failed", key, error)

    def read_failed(self, key: str, error: Exception) -> None:
        """Told by a reader: the body is damaged or unreadable. The object is removed, to be fetched again."""
        self._trouble("damaged" if isinstance(error, Damaged) else "read_failed", key, error)
        self.discard(key)

    def _is_kept_here(self, name: str) -> bool:
        return self._keeps and self._share.owns_file(name)

    def _make_room(self, needed_bytes: int) -> None:
        while True:
            with self._lock:
                if self._used_bytes + needed_bytes <= self._budget_bytes or not self._sizes:
                    return
                name, size = self._sizes.popitem(last=False)
                self._used_bytes -= size
            self._path_of(name).unlink(missing_ok=True)
            EVICTIONS.inc()

    def _forget(self, name: str) -> None:
        with self._lock:
            self._used_bytes -= self._sizes.pop(name, 0)
        self._count()

    def _path_of(self, name: str) -> Path:
        return self._objects / name[:2] / name

    def _count(self) -> None:
        DISK_BYTES.set(self._used_bytes)
        DISK_OBJECTS.set(len(self._sizes))

    def _trouble(self, trouble: str, key: str, error: Exception | None = None) -> None:
        DISK_TROUBLES.labels(trouble).inc()
        self._log.warning("disk trouble", trouble=trouble, key=key, error=str(error) if error else None)
