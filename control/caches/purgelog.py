"""Control's log of purges: every one under a sequence number, on disk before any node hears of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.runtime.logs import Log
from headwater.runtime.purgelines import line_of, valid_lines
from headwater.runtime.wholefiles import replace_whole

KEPT_AT_MOST: Final = 10_000


class PurgeLog:
    """The latest records. `append` and `start` block. Sequence numbers are the Unix time, or one more than the last: they grow
    even when the folder that keeps them is lost."""

    def __init__(self, folder: Path, log: Log, *, at_most: int = KEPT_AT_MOST, clock: Callable[[], float] = time.time) -> None:
        self._file = folder / "purges.log"
        self._log = log
        self._at_most = at_most
        self._clock = clock
        self._records: list[PurgeRecord] = []
        self._length = 0
        self._dropped = 0  # the latest record that is no longer kept

    @property
    def sequence(self) -> int:
        return self._records[-1].sequence if self._records else 0

    def start(self) -> None:
        """Reads what an earlier process kept; a torn end was never told to any node."""
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return
        lines = list(valid_lines(content))
        self._length = sum(len(line) for line, _ in lines)
        self._records = [record for _, record in lines]
        if self._records and self._records[0].kind is PurgeKind.EVERYTHING and not self._records[0].target:
            self._dropped = self._records[0].sequence
        if self._length < len(content):
            self._log.warning("the purge log has a torn end, which no node was told", bytes=len(content) - self._length)

    def append(self, targets: Iterable[tuple[PurgeKind, str]], *, soft: bool) -> list[PurgeRecord]:
        """Writes one record a target and returns them. Raises OSError; then nothing was purged."""
        now = self._clock()
        first = max(self.sequence + 1, int(now))
        records = [PurgeRecord(first + n, kind, target, soft, now) for n, (kind, target) in enumerate(targets)]
        data = b"".join(map(line_of, records))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != self._length:
                os.ftruncate(descriptor, self._length)  # what an append that failed may have left
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], self._length + written)
            os.fdatasync(descriptor)  # the length is synced with the data: without it nobody could read them
        finally:
            os.close(descriptor)
        self._length += len(data)
        self._records.extend(records)
        if len(self._records) > 2 * self._at_most:
            self._forget_old()
        return records

    def before(self, record: PurgeRecord) -> int:
        """The sequence of the record that precedes this one; 0 when none is known."""
        index = self._records.index(record)
        return self._records[index - 1].sequence if index else self._dropped

    def after(self, sequence: int, up_to: int | None = None) -> list[PurgeRecord]:
        """What a node that has carried out `sequence` misses. When that is not known any more, one record purges everything."""
        limit = self.sequence if up_to is None else up_to
        missed = [record for record in self._records if sequence < record.sequence <= limit]
        if sequence < self._dropped and (not missed or missed[0].kind is not PurgeKind.EVERYTHING):
            missed.insert(0, PurgeRecord(self._dropped, PurgeKind.EVERYTHING, "", False, self._clock()))
        return missed

    def _forget_old(self) -> None:
        kept = self._records[-self._at_most :]
        self._dropped = self._records[-self._at_most - 1].sequence
        records = [PurgeRecord(self._dropped, PurgeKind.EVERYTHING, "", False, self._clock()), *kept]
        content = b"".join(map(line_of, records))
        replace_whole(self._file, content)
        self._length = len(content)
        self._records = records
