"""Files that are put together while their parts still arrive, so that `complete` has little left to copy and to hash.

A file of an hour is gigabytes: copied and hashed when its upload is completed, it would keep its creator waiting for seconds. So
each part is appended to a draft of the master, in order, as soon as the part after it is there (the last one may still be
replaced: a stream's tail grows). Nothing depends on it: what is not ready, not as listed, or lost with its process is put
together at `complete`.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headwater.runtime.metrics import counter
from origin.objects.blobs import Draft
from origin.objects.parts import ArrivedPart

MOST: Final = 32  # uploads at once; the others wait for their `complete`
CHUNK_BYTES: Final = 1024 * 1024
SYNC_EVERY_BYTES: Final = 64 * 1024 * 1024

AHEAD = counter("headwater_uploads_assembled_ahead_bytes_total", "Bytes of uploads put together before they were completed.")


@dataclass(slots=True)
class _Assembly:
    """`done` are the parts in the draft, by digest. Whoever changes it holds `lock`; `closed` says that nobody may any more,
    `broken` that a part went in which is not among them."""

    draft: Draft
    done: list[str] = field(default_factory=list)
    unsynced: int = 0
    closed: bool = False
    broken: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Assemblies:
    """`listed(upload_id)` gives the parts that are there, the newest of each number; `path_of` where one lies.

    Any thread may call.
    """

    def __init__(
        self,
        draft: Callable[[], Draft],
        listed: Callable[[str], Sequence[ArrivedPart]],
        path_of: Callable[[str, ArrivedPart], Path],
    ) -> None:
        self._draft = draft
        self._listed = listed
        self._path_of = path_of
        self._running: dict[str, _Assembly] = {}
        self._lock = threading.Lock()
        # One thread: what is done ahead never takes more than one core from who waits.
        self._worker = ThreadPoolExecutor(1, "assemble-ahead")
        weakref.finalize(self, _abandon_all, self._running)

    def part_arrived(self, upload_id: str) -> None:
        self._worker.submit(self._advance, upload_id)

    def take(self, upload_id: str, parts: Sequence[ArrivedPart]) -> tuple[Draft, int] | None:
        """(a draft that begins with the first n of `parts`, n). It is the caller's from now on."""
        with self._lock:
            assembly = self._running.pop(upload_id, None)
        if assembly is None:
            return None
        with assembly.lock:
            assembly.closed = True
        done = len(assembly.done)
        if assembly.broken or assembly.done != [part.sha256 for part in parts[:done]] or not assembly.draft.path.exists():
            assembly.draft.abandon()
            return None
        return assembly.draft, done

    def drop(self, upload_id: str) -> None:
        """The upload was completed or discarded."""
        if (taken := self.take(upload_id, ())) is not None:
            taken[0].abandon()

    def finish(self) -> None:
        """Returns when everything that arrived so far has been looked at."""
        self._worker.submit(lambda: None).result()

    def _advance(self, upload_id: str) -> None:
        """One part, and the next one after whatever else waits."""
        try:
            parts = {part.number: part for part in self._listed(upload_id)}
            if 2 not in parts or (assembly := self._assembly(upload_id)) is None:
                return
            with assembly.lock:
                number = len(assembly.done) + 1
                if assembly.closed or assembly.broken or number not in parts or number + 1 not in parts:
                    return
                self._append(assembly, upload_id, parts[number])
            self._worker.submit(self._advance, upload_id)
        except (OSError, RuntimeError):
            self.drop(upload_id)  # the disk is full, a part is damaged or gone: `complete` finds out and says so

    def _assembly(self, upload_id: str) -> _Assembly | None:
        with self._lock:
            known = self._running.get(upload_id)
        if known is not None:
            return known
        for other in list(self._running):
            if not self._listed(other):
                self.drop(other)  # completed by another process
        made = _Assembly(self._draft())
        with self._lock:
            if len(self._running) < MOST:
                return self._running.setdefault(upload_id, made)
        made.draft.abandon()
        return None

    def _append(self, assembly: _Assembly, upload_id: str, part: ArrivedPart) -> None:
        assembly.broken = True  # until the part is whole and right
        digest = hashlib.sha256()
        with open(self._path_of(upload_id, part), "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                assembly.draft.write(chunk)
        if digest.hexdigest() != part.sha256:
            raise OSError(f"part {part.number} of {upload_id} does not have its digest")
        assembly.done.append(part.sha256)
        assembly.broken = False
        AHEAD.inc(part.size_bytes)
        assembly.unsynced += part.size_bytes
        if assembly.unsynced >= SYNC_EVERY_BYTES:
            assembly.draft.sync()
            assembly.unsynced = 0


def _abandon_all(running: dict[str, _Assembly]) -> None:
    for assembly in running.values():
        assembly.draft.abandon()
