"""How the making of a video goes: its job, its tasks, what is waited for, and when each rung is expected."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from origin.api.deleting import missing_video
from origin.api.forecast import ready_in, waits_for
from origin.api.permission import Permission
from origin.api.requests import video_id_in
from origin.catalogue.engine import reading
from origin.catalogue.schema import JobState
from origin.catalogue.tasklog import JobFacts, TaskEntry, job_of, tasks_of
from origin.catalogue.videos import Video, find_video

Json = dict[str, Any]


class Making:
    """Anybody may see how it goes; what a tool said in its last lines, which names files of ours, is for who shows a token."""

    def __init__(self, catalogue: AsyncEngine, permission: Permission, clock: Callable[[], float] = time.time) -> None:
        self._catalogue = catalogue
        self._permission = permission
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/videos/{video_id}/making", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        video_id = video_id_in(request)
        trusted = "Authorization" in request.headers and bool(await self._permission.creator(request))
        async with reading(self._catalogue) as connection:
            video = await find_video(connection, video_id)
            if video is None:
                raise await missing_video(connection, video_id)
            job, tasks = await job_of(connection, video_id), await tasks_of(connection, video_id)
        answer = making_answer(video, job, tasks, self._clock(), trusted=trusted)
        return web.json_response(answer, headers={"Cache-Control": "no-store"})


def making_answer(video: Video, job: JobFacts | None, tasks: Sequence[TaskEntry], now: float, *, trusted: bool) -> Json:
    return {
        "video_id": video.id,
        "status": video.state,
        "job": _job(job, trusted=trusted) if job else None,
        "waits_for": waits_for(video, job, tasks, now),
        "ready_in_s": ready_in(video, tasks, now),
        "tasks": [_task(task, trusted=trusted) for task in tasks],
    }


def _job(job: JobFacts, *, trusted: bool) -> Json:
    """Why a job that runs was set aside says what a store, the catalogue or the system said: to others its name alone is told."""
    hidden = job.error is not None and job.state is JobState.RUNNING and not trusted
    error = job.error.partition(":")[0] if job.error and hidden else job.error
    return {"state": job.state, "attempts": job.attempts, "error": error, "created_at": job.created_at}


def _task(task: TaskEntry, *, trusted: bool) -> Json:
    error = task.error if trusted or task.error is None else task.error.partition("\n")[0]
    return {
        "name": task.name,
        "kind": task.kind,
        "state": task.state,
        "attempts": task.attempts,
        "media_s": task.media_s,
        "took_s": task.took_s,
        "error": error,
        "started_at": task.started_at,
    }
