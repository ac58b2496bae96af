"""The disk half of the store: one file per object within a hard byte budget. Blocking: run in threads.

A broken disk is never an error page: every trouble is counted, the object is fetched again, and what is damaged is removed.
What the folder holds at start is served at once, by its file name; the index fills meanwhile, and until it is whole nothing
new is written, because nobody knows yet how much is free.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from headwater.cacheproxy.metrics import DISK_BYTES, DISK_OBJECTS, DISK_RESERVED, DISK_TROUBLES, EVICTIONS
from headwater.cacheproxy.store.diskindex import DiskIndex, blocks_of
from headwater.cacheproxy.store.draft import Draft
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.objectfile import Damaged, OpenObject, open_object
from headwater.cacheproxy.store.shares import NAME_DIGITS, WHOLE, Share, file_name
from headwater.runtime.logs import Log

_NAME: Final = re.compile(rf"[0-9a-f]{{{NAME_DIGITS}}}\Z")
_FORMER_NAME: Final = re.compile(r"[0-9a-f]{64}\Z")  # of versions before this one; nothing finds them any more
_OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))  # says nothing about the file


def _always() -> bool:
    return True


class Reservation:
    """Room on the disk for one file that is being written. Released while a thread still enlarges it, it stays released."""

    def __init__(self, disk: DiskStore, blocks: int) -> None:
        self._disk = disk
        self._blocks = blocks
        self._released = False
        self._lock = threading.Lock()

    def covers(self, size_bytes: int) -> bool:
        """Whether a file of this size fits, after making the reservation larger where that is needed and possible."""
        with self._lock:
            more = blocks_of(size_bytes) - self._blocks
            if self._released or (more > 0 and not self._disk.make_room(more)):
                return False
            self._blocks += max(0, more)
            return True

    def turn_into(self, name: bytes, blocks: int) -> None:
        """The file became the object `name`."""
        with self._lock:
            self._disk.index.keep(name, blocks, self._blocks)
            self._blocks = 0

    def release(self) -> None:
        with self._lock:
            self._released = True
            self._disk.index.release(self._blocks)
            self._blocks = 0


class DiskStore:
    """Files named by a digest of their key. What the folder holds at start is found again: the store is warm at once.

    Of several workers each keeps the files of its `share`, and reads those of the others where they lie.
    """

    def __init__(self, folder: Path, budget_bytes: int, log: Log, share: Share = WHOLE) -> None:
        self.index = DiskIndex(budget_bytes)
        self._share = share
        self._keeps = False  # not before `take_over`: until then nobody knows what is free, or another worker still writes
        self._objects = folder / "objects"
        self._all_drafts = folder / "drafts"
        self._drafts = self._all_drafts / str(share.index)
        self._log = log
        self._files = threading.Lock()  # held while a name and its file change together
        self._numbers = itertools.count()
        self._closing = False
        self._shelves: set[int] = set()  # that were there when the last object came to them

    def start(self, *, keeps: bool = True) -> None:
        """Makes the folders and takes over, or (not `keeps`) only reads what lies there until `take_over`."""
        try:
            for folder in (self._objects, self._drafts):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._trouble("folder_unusable", str(self._objects), error)
        if keeps:
            self.take_over()

    def take_over(self) -> None:
        """Becomes the keeper of the share: removes drafts of a killed process and counts what is there."""
        try:
            self._remove_drafts()
            self._drafts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._trouble("folder_unusable", str(self._drafts), error)
        for name, size in self._found():
            if self._closing:
                return
            if self._share.owns_file(name):
                self.index.found(bytes.fromhex(name), blocks_of(size))
        self._keeps = True
        while self.index.is_over and self._evict():
            pass
        self._count()

    def close(self) -> None:
        """Ends a running scan soon."""
        self._closing = True

    def may_hold(self, key: str) -> bool:
        """Whether a look on disk is worth it: the index names the object, or may not know it; does not block."""
        return not self.keeps(key) or self.names(key)

    def names(self, key: str) -> bool:
        """Whether the index names the object."""
        return _name_of(key) in self.index

    def keeps(self, key: str) -> bool:
        """Whether the object would be written here."""
        return self._keeps and self._share.owns(key)

    def open(self, key: str, *, used: bool = True) -> OpenObject | None:
        """The object, its footer checked; None when it is not there or damaged. The caller closes it. It counts as `used`."""
        name = _name_of(key)
        indexed = name in self.index
        try:
            file = open_object(self._path_of(name), key)
        except (FileNotFoundError, NotADirectoryError):
            if indexed and name in self.index:  # else it was evicted meanwhile
                self.index.forget(name)
                self._trouble("file_missing", key)
            return None
        except (Damaged, OSError) as error:
            self.read_failed(key, error)
            return None
        if used:
            self.index.touch(name)
        return file

    def metadata_of(self, name: bytes) -> Metadata | None:
        """What lies under a file's name, without its body; None when it is gone or damaged. No use of it."""
        try:
            file = open_object(self._path_of(name))
        except (OSError, Damaged):
            return None
        file.close()
        return file.metadata

    def reserve(self, size_bytes: int) -> Reservation | None:
        """Room for a file whose body has `size_bytes`, so far as is known now; makes it where it must."""
        blocks = blocks_of(size_bytes) + 1  # the footer of nearly every object fits into one block
        return Reservation(self, blocks) if self.make_room(blocks) else None

    def draft(self) -> Draft:
        """A new file that has no name yet. Raises OSError."""
        return Draft(self._drafts)

    def write(self, metadata: Metadata, body: Iterable[bytes], wanted: Callable[[], bool] = _always) -> bool:
        """Stores a body. False when another worker keeps it, it does not fit, the disk would not take it, or it is not `wanted`
        any more."""
        reservation = self.reserve(metadata.size_bytes) if self.keeps(metadata.key) else None
        if reservation is None:
            return False
        draft: Draft | None = None
        try:
            draft = self.draft()
            for piece in body:
                draft.append(piece)
            return self.adopt(metadata, draft, reservation, wanted)
        except OSError as error:
            self._trouble("write_failed", metadata.key, error)
            return False
        finally:
            if draft is not None:
                draft.close()
            reservation.release()

    def adopt(self, metadata: Metadata, draft: Draft, reservation: Reservation, wanted: Callable[[], bool] = _always) -> bool:
        """Makes a draft that holds the whole body the object of its key, if it is still `wanted` then: a `discard` that comes
        meanwhile changes that. The reservation is used up when it works."""
        name = _name_of(metadata.key)
        path = self._path_of(name)
        try:
            end = draft.footer(metadata)
            if not self.keeps(metadata.key) or not reservation.covers(draft.length + len(end)):
                return False
            size = draft.complete(end)
            with self._files:
                if not wanted():
                    return False
                if name[0] not in self._shelves:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    self._shelves.add(name[0])
                draft.become(path, f"{self._drafts}/{name.hex()}.{next(self._numbers)}")
                reservation.turn_into(name, blocks_of(size))
        except (OSError, Damaged) as error:
            self._shelves.discard(name[0])
            self._trouble("write_failed", metadata.key, error)
            return False
        self._count()
        return True

    def discard(self, key: str) -> None:
        name = _name_of(key)
        with self._files:
            if self._remove(name, key):
                self.index.forget(name)
        self._count()

    def read_failed(self, key: str, error: Exception) -> None:
        """Told by a reader: the body is damaged or unreadable. The object is removed, to be fetched again."""
        self._trouble("damaged" if isinstance(error, Damaged) else "read_failed", key, error)
        if not (isinstance(error, OSError) and error.errno in _OUT_OF_DESCRIPTORS):
            self.discard(key)

    def make_room(self, blocks: int) -> bool:
        """Reserves, giving up objects as it must. False when that is not enough."""
        if blocks > self.index.budget or not self._keeps:
            return False
        while not self.index.reserve(blocks):
            if not self._evict():
                return False
        DISK_RESERVED.set(self.index.reserved_bytes)
        return True

    def _evict(self) -> bool:
        with self._files:
            victim = self.index.give_up()
            if victim is None:
                return False
            name, blocks = victim
            if not self._remove(name, name.hex()):
                self.index.stays(name, blocks)
                return False
            self.index.gone(blocks)
        EVICTIONS.inc()
        return True

    def _remove(self, name: bytes, key: str) -> bool:
        """Whether the object's file is gone now. Whatever stands in its place is put aside, to be removed at the next start."""
        path = self._path_of(name)
        try:
            try:
                os.unlink(path)
            except FileNotFoundError:
                return True
            except (IsADirectoryError, PermissionError):
                os.rename(path, f"{self._drafts}/odd.{next(self._numbers)}")
        except NotADirectoryError:
            return True
        except OSError as error:
            self._trouble("remove_failed", key, error)
            return False
        return True

    def _found(self) -> Iterator[tuple[str, int]]:
        """Names and sizes of the files that have an object's name."""
        try:
            shelves = [entry.path for entry in os.scandir(self._objects) if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            self._trouble("folder_unusable", str(self._objects), error)
            return
        for shelf in shelves:
            try:
                with os.scandir(shelf) as entries:
                    for entry in entries:
                        try:
                            size = entry.stat(follow_symlinks=False).st_size
                        except FileNotFoundError:
                            continue
                        if _NAME.match(entry.name):
                            yield entry.name, size
                        elif _FORMER_NAME.match(entry.name) and self._share.owns_file(entry.name):
                            os.unlink(entry.path)
            except OSError as error:
                self._trouble("folder_unusable", shelf, error)

    def _remove_drafts(self) -> None:
        """Those of this worker, and of workers that there are no more: each of those falls to one of today's."""
        if not self._all_drafts.is_dir():
            return
        for left in self._all_drafts.iterdir():
            number = int(left.name) if left.name.isascii() and left.name.isdigit() else 0
            if number % self._share.workers == self._share.index:
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink(missing_ok=True)

    def _path_of(self, name: bytes) -> str:
        """Plain text: making a Path costs as much as the system call that takes it."""
        text = name.hex()
        return f"{self._objects}/{text[:2]}/{text}"

    def _count(self) -> None:
        DISK_BYTES.set(self.index.used_bytes)
        DISK_RESERVED.set(self.index.reserved_bytes)
        DISK_OBJECTS.set(len(self.index))

    def _trouble(self, trouble: str, key: str, error: Exception | None = None) -> None:
        DISK_TROUBLES.labels(trouble).inc()
        self._log.warning("disk trouble", trouble=trouble, key=key, error=str(error) if error else None)


def _name_of(key: str) -> bytes:
    return bytes.fromhex(file_name(key))
