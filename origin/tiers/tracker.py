"""Who was read how often: counted in memory, kept in a small SQLite file of the node's own, so that a restart forgets little.

Recording a read is one dictionary entry; a viewer never waits for the file. What a killed process had not yet written (the
reads of some seconds) is forgotten: a popular object is read again at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter
from origin.tiers.heat import Heat, one_read

FLUSH_S: Final = 10.0
# A file that cannot be written must not fill the memory: beyond this many keys new ones are not counted.
MOST_PENDING: Final = 200_000
_ASK_AT_ONCE: Final = 500

FLUSHES = counter("headwater_origin_heat_flushes_total", "Writes of read counts to the tracker's file, by outcome.", ["outcome"])
UNCOUNTED = counter("headwater_origin_heat_uncounted_total", "Reads that were not counted because the file cannot be written.")


class AccessTracker:
    def __init__(self, file: Path, clock: Callable[[], float], log: Log) -> None:
        self._file = file
        self._clock = clock
        self._log = log
        self._pending: dict[str, Heat] = {}
        self._writing: dict[str, Heat] = {}

    def record(self, key: str) -> None:
        """Counts one read."""
        heat = one_read(self._clock())
        held = self._pending.get(key)
        if held is not None:
            self._pending[key] = held.merged(heat)
        elif len(self._pending) < MOST_PENDING:
            self._pending[key] = heat
        else:
            UNCOUNTED.inc()

    async def flush_on(self) -> None:
        """Writes what was counted, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes what was counted; what cannot be written is kept for the next time."""
        if self._writing or not self._pending:
            return
        self._writing, self._pending = self._pending, {}
        try:
            await asyncio.to_thread(self._write, self._writing)
            FLUSHES.labels("written").inc()
        except (sqlite3.Error, OSError) as error:
            FLUSHES.labels("failed").inc()
            self._log.warning("read counts cannot be written", file=str(self._file), error=str(error))
            self._pending = dict(_merged(self._writing, self._pending))
        finally:
            self._writing = {}

    async def heats(self, keys: Iterable[str]) -> dict[str, Heat]:
        """The heat of those keys that were ever read."""
        asked = list(keys)
        stored = await asyncio.to_thread(self._read, asked)
        for newer in (self._writing, self._pending):
            stored = dict(_merged(stored, {key: newer[key] for key in asked if key in newer}))
        return stored

    async def forget(self, before: float) -> None:
        """Drops keys that were not read since `before`: they count as never read."""
        await asyncio.to_thread(self._forget, before)

    def _write(self, heats: Mapping[str, Heat]) -> None:
        stored = self._read(list(heats))
        rows = [(key, heat.score, heat.read_at) for key, heat in _merged(stored, heats) if key in heats]
        with self._database() as database, database:
            database.executemany("INSERT OR REPLACE INTO heat (key, score, read_at) VALUES (?, ?, ?)", rows)

    def _read(self, keys: list[str]) -> dict[str, Heat]:
        found: dict[str, Heat] = {}
        with self._database() as database:
            for start in range(0, len(keys), _ASK_AT_ONCE):
                some = keys[start : start + _ASK_AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = database.execute(f"SELECT key, score, read_at FROM heat WHERE key IN ({marks})", some)
                found.update((key, Heat(score, read_at)) for key, score, read_at in rows)
        return found

    def _forget(self, before: float) -> None:
        with self._database() as database, database:
            database.execute("DELETE FROM heat WHERE read_at < ?", (before,))

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._file)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("CREATE TABLE IF NOT EXISTS heat (key TEXT PRIMARY KEY, score REAL, read_at REAL) WITHOUT ROWID")
                yield database
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
                # Counts can be made anew; a damaged file is put aside for whoever wants to look at it.
                self._log.warning("the file of read counts is damaged; starting anew", file=str(self._file))
                self._file.replace(self._file.with_suffix(".damaged"))
            raise


def _merged(one: Mapping[str, Heat], other: Mapping[str, Heat]) -> Iterator[tuple[str, Heat]]:
    for key in one.keys() | other.keys():
        if key in one and key in other:
            yield key, one[key].merged(other[key])
        else:
            yield key, one[key] if key in one else other[key]
