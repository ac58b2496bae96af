"""Notes what becomes of tasks. Written to the catalogue in batches, beside the work: nobody's first picture waits for a note."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from origin.catalogue.schema import TaskState
from origin.catalogue.tasklog import TaskEntry, attempts_so_far, write_tasks
from origin.transcode.failure import TaskFailed
from origin.transcode.metrics import NOTES_LOST

FLUSH_S = 0.5
KEPT_ERROR_LINES = 6
MOST_UNWRITTEN = 10_000  # a catalogue that is away for long costs notes, not memory


class Journal:
    """The notes of all videos of one coordinator."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float], log: Log) -> None:
        self._engine = engine
        self._clock = clock
        self._log = log
        self._unwritten: dict[tuple[VideoId, str], TaskEntry] = {}

    async def begin(self, video_id: VideoId) -> VideoNotes:
        """The notes of one video, which go on counting where an earlier run stopped."""
        return VideoNotes(self, video_id, await attempts_so_far(self._engine, video_id), self._clock)

    def note(self, entry: TaskEntry) -> None:
        if len(self._unwritten) < MOST_UNWRITTEN:
            self._unwritten[(entry.video_id, entry.name)] = entry
        else:
            NOTES_LOST.inc()

    async def keep(self) -> None:
        """Writes what was noted, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        if not unwritten:
            return
        try:
            await write_tasks(self._engine, unwritten.values())
        except SQLAlchemyError as error:
            self._log.warning("notes on tasks not written yet", error=str(error))
            self._unwritten = {**unwritten, **self._unwritten}


class VideoNotes:
    """What becomes of one video's tasks."""

    def __init__(self, journal: Journal, video_id: VideoId, attempts: dict[str, int], clock: Callable[[], float]) -> None:
        self._journal = journal
        self._video_id = video_id
        self._attempts = attempts
        self._clock = clock
        self._entries: dict[str, TaskEntry] = {}

    def started(self, kind: str, name: str, media_s: float | None) -> None:
        now = self._clock()
        self._attempts[name] = self._attempts.get(name, 0) + 1
        error = self._entries[name].error if name in self._entries else None
        attempts = self._attempts[name]
        self._put(TaskEntry(self._video_id, name, kind, TaskState.RUNNING, attempts, now, media_s, error=error, started_at=now))

    def done(self, name: str, took_s: float) -> None:
        self._put(replace(self._entries[name], state=TaskState.DONE, took_s=took_s, updated_at=self._clock()))
        del self._entries[name]

    def failed(self, name: str, failure: TaskFailed, *, last: bool) -> None:
        lines = [str(failure), *failure.trace.splitlines()[-KEPT_ERROR_LINES:]]
        state = TaskState.FAILED if last else TaskState.WAITING
        self._put(replace(self._entries[name], state=state, error="\n".join(lines), updated_at=self._clock()))

    def _put(self, entry: TaskEntry) -> None:
        self._entries[entry.name] = entry
        self._journal.note(entry)
