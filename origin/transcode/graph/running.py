"""One task after another for a video: waits for its turn, hands it to a worker, tries again what is worth it, and counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from origin.transcode.failure import TaskFailed
from origin.transcode.graph.cluster import TaskCluster
from origin.transcode.graph.fair import FairGate, Stage
from origin.transcode.graph.journal import VideoNotes
from origin.transcode.metrics import TASK_TIME, TASKS, TASKS_RUNNING, TASKS_WAITING

Result = TypeVar("Result")


class TaskRunner:
    """Runs one video's tasks, each at most `attempts` times."""

    def __init__(
        self, cluster: TaskCluster, gate: FairGate, attempts: int, video_id: VideoId, notes: VideoNotes, log: Log
    ) -> None:
        self._notes = notes
        self._cluster = cluster
        self._gate = gate
        self._attempts = attempts
        self._video_id = video_id
        self._log = log

    async def run(
        self, kind: str, name: str, stage: Stage, work: Callable[..., Result], *arguments: Any, media_s: float | None = None
    ) -> Result:
        """One task on a worker, tried again as often as the settings say unless the file itself is at fault.

        `media_s` is how much of the video it makes, for those who ask how long the rest will take.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._once(kind, name, stage, attempt, media_s, work, *arguments)
            except TaskFailed as failed:
                TASKS.labels(kind, failed.kind).inc()
                last = attempt == self._attempts or not failed.worth_retrying
                self._notes.failed(name, failed, last=last)
                self._log.warning(
                    "task failed",
                    task=name,
                    attempt=attempt,
                    failure=failed.kind,
                    detail=failed.detail,
                    trace=failed.trace,
                    last=last,
                )
                if last:
                    raise
        raise AssertionError("attempts is at least 1")

    async def _once(
        self,
        kind: str,
        name: str,
        stage: Stage,
        attempt: int,
        media_s: float | None,
        work: Callable[..., Result],
        *arguments: Any,
    ) -> Result:
        TASKS_WAITING.inc()
        try:
            place = self._gate.place(self._video_id, stage)
            await place.__aenter__()
        finally:
            TASKS_WAITING.dec()
        began = time.monotonic()
        self._notes.started(kind, name, media_s)
        TASKS_RUNNING.inc()
        try:
            key = f"{kind}-{self._video_id}-{name}-{attempt}-{began}"
            result = await self._cluster.run(key, work, *arguments)
        finally:
            TASKS_RUNNING.dec()
            await place.__aexit__(None, None, None)
        took_s = time.monotonic() - began
        self._notes.done(name, took_s)
        TASK_TIME.labels(kind).observe(took_s)
        TASKS.labels(kind, "done").inc()
        self._log.info("task done", task=name, took_s=round(took_s, 3))
        return result
