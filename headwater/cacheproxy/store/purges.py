"""The purges of a node: an append-only log on disk, and what it says of an object at each look-up. See `headwater.rules.purging`.

    {folder}/log      a line a record: CRC-32 in hex, a space, JSON
    {folder}/state    three 64-bit numbers that all workers of the node map: changes, length of the log, generation of its file

A record is appended and fsynced before it is acknowledged; `state` then tells every worker at its very next look-up, without a
message, that there is more to read. A torn end, of a process that was killed while it wrote, was never acknowledged and is cut.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from headwater.cacheproxy.metrics import PURGE_RECORDS, PURGE_SEQUENCE, PURGED_OBJECTS
from headwater.cacheproxy.store.metadata import Metadata
from headwater.rules.fields import Fields
from headwater.rules.purging import Coverage, Named, PurgeRecord, PurgeTable, folded, tags_of
from headwater.runtime.logs import Log
from headwater.runtime.purgelines import line_of, valid_lines
from headwater.runtime.wholefiles import replace_whole, sync_folder, writing_alone

RECORDS_AT_MOST: Final = 50_000  # about 15 MB of memory; beyond it the oldest half becomes one record that names everything
_CHANGES, _LENGTH, _GENERATION = range(3)
_STATE_BYTES: Final = 3 * 8


class Purges:
    """Until `start` there are none. `take` blocks (run it in a thread); everything else is quick."""

    def __init__(self, folder: Path, log: Log, *, at_most: int = RECORDS_AT_MOST) -> None:
        self._folder = folder
        self._log = log
        self._at_most = at_most
        self._lock = threading.Lock()
        self._state = memoryview(bytearray(_STATE_BYTES)).cast("Q")
        self._table = PurgeTable()
        self._kept = 0
        self._unkept: list[PurgeRecord] = []  # that the log did not take
        self._seen = (0, 0, 0)
        self._seen_changes = 0

    def start(self) -> None:
        """Reads the log. Raises OSError when the folder cannot be used."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _STATE_BYTES)
            self._state = memoryview(mmap.mmap(descriptor, _STATE_BYTES)).cast("Q")
        finally:
            os.close(descriptor)
        with self._lock, writing_alone(self._folder / "lock"):
            content = self._content(None)
            lines = list(valid_lines(content))
            valid = sum(len(line) for line, _ in lines)
            if valid < len(content):
                self._log.warning("the purge log has a torn end, which was never acknowledged", bytes=len(content) - valid)
                os.truncate(self._folder / "log", valid)
            self._state[_LENGTH] = valid
            self._state[_CHANGES] += 1
            self._read_all()

    @property
    def sequence(self) -> int:
        """The latest record that this node has carried out."""
        if self._state[_CHANGES] != self._seen_changes:
            self._read_on()
        return self._table.sequence

    @property
    def kept(self) -> int:
        """The latest record that is in the log: what may be acknowledged."""
        if self._state[_CHANGES] != self._seen_changes:
            self._read_on()
        return self._kept

    def judge(self, metadata: Metadata) -> Metadata | None:
        """The metadata as the purges leave it: unchanged, stale from some moment on, or None when the object is gone."""
        sequence = self.sequence
        if metadata.accounted >= sequence:
            return metadata
        verdict = self._table.verdict(Named(metadata.url_key or metadata.key, metadata.tags), metadata.accounted)
        if verdict.coverage is Coverage.KEPT:
            return replace(metadata, accounted=sequence)
        PURGED_OBJECTS.labels(verdict.coverage).inc()
        if verdict.coverage is Coverage.GONE:
            return None
        since = verdict.stale_since if metadata.stale_since is None else metadata.stale_since
        return replace(metadata, accounted=sequence, stale_since=since)

    def of_fill(self, key: str, fields: Fields | None, accounted: int) -> Coverage:
        """What became of an object whose fill began at `accounted`; until its `fields` are known any tag may be its own."""
        if self.sequence <= accounted:
            return Coverage.KEPT
        if fields is None and self._table.newest_tag > accounted:
            return Coverage.GONE
        return self._table.verdict(Named(key, tags_of(key, fields or ())), accounted).coverage

    def take(self, records: Iterable[PurgeRecord]) -> int:
        """Carries out records, in their order; those that are known already change nothing. Returns the latest sequence.

        When it returns they hold in every worker, also after a crash. Raises OSError when the log does not take them: they then
        hold in this process only, and must not be acknowledged; they go into the log before whatever comes later.
        """
        now = time.time()  # soft purges: this node's clock is the one that ages are counted by
        with self._lock, writing_alone(self._folder / "lock"):
            self._read_new()
            unkept = {record.sequence for record in self._unkept}
            asked = [replace(record, at=now) for record in records if record.sequence not in unkept]
            news = [record for record in sorted((*self._unkept, *asked), key=_sequence) if record.sequence > self._kept]
            if not news:
                return self._kept
            try:
                self._append(news)
            except OSError:
                self._unkept = news
                self._hold_unkept()
                raise
            self._read_new()
            if len(self._table) > self._at_most:
                self._fold()
            return self._kept

    def _append(self, records: list[PurgeRecord]) -> None:
        length = self._state[_LENGTH]
        data = b"".join(map(line_of, records))
        descriptor = os.open(self._folder / "log", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != length:
                os.ftruncate(descriptor, length)  # what an append that failed may have left
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], length + written)
            os.fdatasync(descriptor)  # the length is synced with the data: without it nobody could read them
        finally:
            os.close(descriptor)
        if not length:
            sync_folder(self._folder)
        self._state[_LENGTH] = length + len(data)
        self._state[_CHANGES] += 1

    def _fold(self) -> None:
        """Rewrites the log with half as many records."""
        content = b"".join(map(line_of, folded(self._table.records(), self._at_most // 2)))
        replace_whole(self._folder / "log", content)
        self._state[_LENGTH] = len(content)
        self._state[_GENERATION] += 1
        self._state[_CHANGES] += 1
        self._read_new()

    def _read_on(self) -> None:
        with self._lock, writing_alone(self._folder / "lock"):
            self._read_new()

    def _read_new(self) -> None:
        """Reads what was appended, by this worker or another; all of it when the file was rewritten."""
        changes, length, generation = self._state
        if changes == self._seen_changes:
            return
        _, seen_length, seen_generation = self._seen
        if generation != seen_generation or length < seen_length:
            self._read_all()
            return
        for _, record in valid_lines(self._content(length, seen_length) if length > seen_length else b""):
            self._table.add(record)
            self._kept = max(self._kept, record.sequence)
        self._noted()

    def _read_all(self) -> None:
        table = PurgeTable()
        for _, record in valid_lines(self._content(self._state[_LENGTH])):
            table.add(record)
        self._table = table
        self._kept = table.sequence
        self._hold_unkept()
        self._noted()

    def _hold_unkept(self) -> None:
        for record in self._unkept:
            self._table.add(record)

    def _noted(self) -> None:
        self._unkept = [record for record in self._unkept if record.sequence > self._kept]
        self._seen = (self._state[_CHANGES], self._state[_LENGTH], self._state[_GENERATION])
        self._seen_changes = self._seen[_CHANGES]
        PURGE_RECORDS.set(len(self._table))
        PURGE_SEQUENCE.set(self._table.sequence)

    def _content(self, length: int | None, start: int = 0) -> bytes:
        """The log's bytes from `start` on, up to `length`; None: all there are."""
        try:
            with (self._folder / "log").open("rb") as file:
                file.seek(start)
                return file.read() if length is None else file.read(length - start)
        except FileNotFoundError:
            return b""


def _sequence(record: PurgeRecord) -> int:
    return record.sequence
