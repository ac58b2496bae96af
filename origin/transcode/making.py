"""One video from its master to its last rung: the graph of tasks, and what is told to viewers as they finish.

probe ─ plan ┬ encode[first rung x range] ─ package ─ publish → ready ─ storyboard
             ├ audio ─ package ─ publish ─┘
             ├ encode[other rung x range] ─ package ─ publish (each by itself, after the first)
             └ poster ─ publish
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.mediapath import POSTER
from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from headwater.settings.origin import Transcode
from origin.catalogue.renditions import (
    FinishedRendition,
    PlannedRendition,
    drop_rendition,
    mark_ready,
    record_finished,
    record_plan,
    record_progress,
    record_stills,
)
from origin.transcode.cluster import TaskCluster, threads_for
from origin.transcode.encode import EncodeSettings
from origin.transcode.failure import TaskFailed
from origin.transcode.fair import FairGate, Stage
from origin.transcode.metrics import FIRST_PLAYABLE, TASK_TIME, TASKS, TASKS_RUNNING, TASKS_WAITING
from origin.transcode.plan import FrameRange, Plan, make_plan
from origin.transcode.publish import Publisher
from origin.transcode.rendition import Rendition, check_renditions
from origin.transcode.source import Bounds, ProbeReport
from origin.transcode.tasks import (
    AUDIO_CODEC,
    VIDEO_CODEC,
    PackagedRung,
    Source,
    run_audio,
    run_encode,
    run_package,
    run_poster,
    run_probe,
    run_storyboard,
)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all videos share."""

    engine: AsyncEngine
    cluster: TaskCluster
    gate: FairGate
    settings: Transcode
    clock: Callable[[], float] = time.time


@dataclass(slots=True)
class Published:
    """What viewers can play so far. `awaited` were ready before a restart: manifests without them are not shown again."""

    video: list[Rendition] = field(default_factory=list)
    audio: Rendition | None = None
    awaited: set[tuple[str, str]] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class VideoMaking:
    """The making of one video; `run` does it all."""

    def __init__(self, shop: Workshop, video_id: VideoId, source: Source, publisher: Publisher, log: Log) -> None:
        self._shop = shop
        self._video_id = video_id
        self._source = source
        self._publisher = publisher
        self._log = log.bind(video_id=video_id)
        self._published = Published()
        self._began = shop.clock()
        self._underway = asyncio.Event()  # the first rung's ranges wait for workers, so what comes after them may too

    async def run(self) -> list[TaskFailed]:
        """Makes everything. Raises TaskFailed when nothing can be played; returns what failed after that."""
        settings = self._shop.settings
        bounds = Bounds(settings.max_pixels, settings.max_duration)
        report = await self._task("probe", "probe", Stage.QUICK, run_probe, self._source, bounds)
        plan = make_plan(report, settings)
        self._log.info(
            "planned", rungs=[rung.name for rung in plan.rungs], ranges=len(plan.ranges), seconds=float(report.duration)
        )
        await self._record(report, plan)
        others = asyncio.Event()  # set when the first rung is out
        rungs = [partial(self._later_rung, report, plan, place, others) for place in range(1, len(plan.rungs))]
        running = [asyncio.create_task(_outcome(work)) for work in (partial(self._poster, report), *rungs)]
        try:
            first = await self._playable(report, plan)
            others.set()
            running.append(asyncio.create_task(_outcome(partial(self._storyboard, plan, first))))
            return [failed for failed in await asyncio.gather(*running) if failed is not None]
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _playable(self, report: ProbeReport, plan: Plan) -> PackagedRung:
        """The first rung and the sound, published; the video is ready."""
        work = [self._rung(report, plan, 0)]
        if plan.audio_kbps is not None:
            work.append(self._audio(report, plan, plan.audio_kbps))
        first, *audio = await _all_or_first_failure(work)
        await self._publish(plan, [first, *audio])
        await mark_ready(self._shop.engine, self._video_id, self._shop.clock())
        took_s = self._shop.clock() - self._began
        FIRST_PLAYABLE.observe(took_s)
        self._log.info("ready", rung=first.rendition.path, took_s=round(took_s, 3))
        return first

    async def _later_rung(self, report: ProbeReport, plan: Plan, place: int, others: asyncio.Event) -> None:
        name = plan.rungs[place].name
        await self._underway.wait()
        try:
            packaged = await self._rung(report, plan, place)
            await others.wait()
            await self._publish(plan, [packaged])
        except TaskFailed:
            await drop_rendition(self._shop.engine, self._video_id, VIDEO_CODEC, name)
            raise

    async def _rung(self, report: ProbeReport, plan: Plan, place: int) -> PackagedRung:
        """All ranges of one rung, joined and checked."""
        rung, later = plan.rungs[place], Stage.OTHER_RUNGS + place
        encoding = EncodeSettings(self._shop.settings.preset, threads_for(self._shop.settings), self._shop.settings.task_timeout)
        done = 0

        async def encode(part: FrameRange) -> Path:
            nonlocal done
            if place == 0 and part is plan.ranges[-1]:
                self._underway.set()
            stage = later if place else (Stage.PLAYABLE if part.index else Stage.FIRST_WINDOW)
            name = f"encode/{rung.name}/{part.index}"
            arguments = (self._source, report, plan.timing, rung, part, encoding)
            folder = await self._task("encode", name, stage, run_encode, *arguments)
            done += part.frames
            await self._progress(VIDEO_CODEC, rung.name, done / plan.timing.frames)
            return folder

        folders = await _all_or_first_failure([encode(part) for part in plan.ranges])
        arguments = (self._source, "video", rung.name, folders, rung, plan.timing, "")
        return await self._task("package", f"package/{rung.name}", Stage.QUICK, run_package, *arguments)

    async def _audio(self, report: ProbeReport, plan: Plan, kbps: int) -> PackagedRung:
        settings = self._shop.settings
        arguments = (self._source, report, plan.timing, kbps, settings.task_timeout)
        await self._underway.wait()
        folder = await self._task("audio", "audio", Stage.PLAYABLE, run_audio, *arguments)
        await self._progress(AUDIO_CODEC, plan.audio_name, 0.99)  # all but its publishing
        language = report.audio.language if report.audio else ""
        packaging = (self._source, "audio", plan.audio_name, [folder], None, plan.timing, language)
        return await self._task("package", "package/audio", Stage.QUICK, run_package, *packaging)

    async def _poster(self, report: ProbeReport) -> None:
        timeout_s = self._shop.settings.task_timeout
        await self._underway.wait()
        poster = await self._task("poster", "poster", Stage.PLAYABLE, run_poster, self._source, report, timeout_s)
        await self._publisher.stills([(POSTER, poster)])
        await record_stills(self._shop.engine, self._video_id, self._shop.clock(), poster=True)

    async def _storyboard(self, plan: Plan, first: PackagedRung) -> None:
        arguments = (self._source, first, plan.rungs[0], plan.timing, self._shop.settings.task_timeout)
        files = await self._task("storyboard", "storyboard", Stage.STILLS, run_storyboard, *arguments)
        await self._publisher.stills(files)
        await record_stills(self._shop.engine, self._video_id, self._shop.clock(), storyboard=True)

    async def _publish(self, plan: Plan, packaged: Sequence[PackagedRung]) -> None:
        """Objects first, manifests over everything published so far, then the catalogue."""
        published = self._published
        for rung in packaged:
            key = (rung.rendition.codec, rung.rendition.rung)
            if key not in published.awaited:
                await self._publisher.rung(rung)
        async with published.lock:
            video = [*published.video, *(rung.rendition for rung in packaged if rung.rendition.kind == "video")]
            audio = next((rung.rendition for rung in packaged if rung.rendition.kind == "audio"), published.audio)
            both = [*video, audio] if audio else video
            check_renditions(both, plan.timing.duration, 1 / plan.timing.frame_rate)
            published.video, published.audio = video, audio
            published.awaited -= {(rung.rendition.codec, rung.rendition.rung) for rung in packaged}
            if not published.awaited:
                await self._publisher.manifests(video, audio)
        for rung in packaged:
            await self._finished(rung.rendition)

    async def _record(self, report: ProbeReport, plan: Plan) -> None:
        rate = _fraction(plan.timing.frame_rate)
        planned = [PlannedRendition(VIDEO_CODEC, r.name, "video", r.width, r.height, rate) for r in plan.rungs]
        if plan.audio_kbps is not None:
            planned.append(PlannedRendition(AUDIO_CODEC, plan.audio_name, "audio"))
        self._published.awaited = set(
            await record_plan(
                self._shop.engine,
                self._video_id,
                duration_s=float(plan.timing.duration),
                width=report.width,
                height=report.height,
                frame_rate=rate,
                planned=planned,
                now=self._shop.clock(),
            )
        )

    async def _progress(self, codec: str, rung: str, progress: float) -> None:
        await record_progress(self._shop.engine, self._video_id, codec, rung, min(progress, 0.99), self._shop.clock())

    async def _finished(self, rendition: Rendition) -> None:
        facts = FinishedRendition(
            codecs=rendition.codecs,
            bandwidth_bps=rendition.bandwidth_bps,
            average_bandwidth_bps=rendition.average_bandwidth_bps,
            segments=len(rendition.segments),
            size_bytes=rendition.size_bytes,
        )
        await record_finished(self._shop.engine, self._video_id, rendition.codec, rendition.rung, facts, self._shop.clock())
        self._log.info("published", rung=rendition.path, segments=facts.segments, bytes=facts.size_bytes)

    async def _task(self, kind: str, name: str, stage: int, work: Callable[..., Result], *arguments: Any) -> Result:
        """One task on a worker, tried again as often as the settings say unless the file itself is at fault."""
        for attempt in range(1, self._shop.settings.attempts + 1):
            try:
                return await self._once(kind, name, stage, attempt, work, *arguments)
            except TaskFailed as failed:
                TASKS.labels(kind, failed.kind).inc()
                last = attempt == self._shop.settings.attempts or not failed.worth_retrying
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

    async def _once(self, kind: str, name: str, stage: int, attempt: int, work: Callable[..., Result], *arguments: Any) -> Result:
        gate = self._shop.gate
        TASKS_WAITING.inc()
        try:
            place = gate.place(self._video_id, stage)
            await place.__aenter__()
        finally:
            TASKS_WAITING.dec()
        began = time.monotonic()
        TASKS_RUNNING.inc()
        try:
            key = f"{kind}-{self._video_id}-{name}-{attempt}-{began}"
            result = await self._shop.cluster.run(key, work, *arguments)
        finally:
            TASKS_RUNNING.dec()
            await place.__aexit__(None, None, None)
        took_s = time.monotonic() - began
        TASK_TIME.labels(kind).observe(took_s)
        TASKS.labels(kind, "done").inc()
        self._log.info("task done", task=name, took_s=round(took_s, 3))
        return result


async def _outcome(work: Callable[[], Awaitable[None]]) -> TaskFailed | None:
    """The failure of work that nobody else depends on."""
    try:
        await work()
    except TaskFailed as failed:
        return failed
    return None


async def _all_or_first_failure(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results in order. The first failure stops the others."""
    tasks: list[asyncio.Task[Result]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(item) for item in work]
    except BaseExceptionGroup as ended:
        # Not `except*`: what is raised there comes out as a group again, which nobody further up takes for a TaskFailed.
        failures, others = ended.split(TaskFailed)
        if failures is None or others is not None:
            raise
        raise _first_failure(failures) from None
    return [task.result() for task in tasks]


def _first_failure(failures: BaseExceptionGroup[TaskFailed]) -> TaskFailed:
    for failure in failures.exceptions:
        return _first_failure(failure) if isinstance(failure, BaseExceptionGroup) else failure
    raise AssertionError("a group is never empty")


def _fraction(rate: Fraction) -> str:
    return f"{rate.numerator}/{rate.denominator}"
