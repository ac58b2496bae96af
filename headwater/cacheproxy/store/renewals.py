"""What 304 answers renewed, kept beside the objects: a restart does not have to ask for everything again.

The renewed metadata lies in memory and, a moment later, as a line of a journal: CRC-32, space, JSON. A line that is torn or
flipped is skipped. A line counts only for the very body that it renewed (validators, size) and only when it is younger than
what stands in the object's file; so an old journal can never make a replaced object look fresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import zlib
from pathlib import Path
from typing import Final

from cachetools import LRUCache

from headwater.cacheproxy.metrics import DISK_TROUBLES
from headwater.cacheproxy.store.metadata import Metadata
from headwater.runtime.logs import Log

REMEMBERED: Final = 10_000
FLUSH_AFTER_S: Final = 0.5
REWRITE_LINES: Final = 4 * REMEMBERED


class Renewals:
    """The last renewal of each object, the least recently used forgotten. To be used from the loop, but for `load`."""

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._latest: LRUCache[str, Metadata] = LRUCache(REMEMBERED)
        self._unwritten: dict[str, Metadata] = {}
        self._lines = 0
        self._flush: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def load(self) -> None:
        """Reads the journal of an earlier process. Blocking."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            self._trouble(error)
            return
        self._lines = len(lines)
        for line in lines:
            checksum, _, text = line.partition(b" ")
            if checksum == b"%08x" % zlib.crc32(text):
                try:
                    metadata = Metadata.from_json(text)
                except (ValueError, KeyError, TypeError):
                    continue
                self._latest[metadata.key] = metadata

    def note(self, metadata: Metadata) -> None:
        self._latest[metadata.key] = metadata
        self._unwritten[metadata.key] = metadata
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._write_later(), name="renewals")

    def forget(self, key: str) -> None:
        self._latest.pop(key, None)
        self._unwritten.pop(key, None)

    def latest(self, stored: Metadata) -> Metadata:
        """The metadata of a stored body, renewed when a 304 renewed it."""
        renewed = self._latest.get(stored.key)
        if renewed is None or renewed.response_time <= stored.response_time:
            return stored
        return renewed if renewed.is_of_body_of(stored) else stored

    async def close(self) -> None:
        """Writes what is not written yet."""
        self._closing.set()
        if self._flush is not None:
            await self._flush

    async def _write_later(self) -> None:
        """Writes in batches until there is nothing left to write."""
        while self._unwritten:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FLUSH_AFTER_S)
            batch, self._unwritten = self._unwritten, {}
            rewrite = list(self._latest.values()) if self._lines + len(batch) > REWRITE_LINES else None
            try:
                await asyncio.to_thread(self._write, list(batch.values()), rewrite)
            except OSError as error:
                self._trouble(error)

    def _write(self, batch: list[Metadata], rewrite: list[Metadata] | None) -> None:
        if rewrite is not None:
            draft = self._path.with_name(self._path.name + ".draft")
            draft.write_bytes(b"".join(_line(metadata) for metadata in rewrite))
            os.replace(draft, self._path)
            self._lines = len(rewrite)
            return
        with self._path.open("ab") as file:
            # A line break first: the last line may be torn by a kill.
            file.write(b"\n" + b"".join(_line(metadata) for metadata in batch))
        self._lines += len(batch)

    def _trouble(self, error: OSError) -> None:
        DISK_TROUBLES.labels("renewals_failed").inc()
        self._log.warning("disk trouble", trouble="renewals_failed", error=str(error))


def _line(metadata: Metadata) -> bytes:
    text = metadata.to_json()
    return b"%08x %s\n" % (zlib.crc32(text), text)
