"""One video from its master to its last rung: the graph of tasks, and what is told to viewers as they finish.

probe ─ plan ┬ encode[first rung x range] ─ grow (from the first range on: ready) ─ package ─ publish ─ storyboard
             ├ audio[window] ─ grow ─ package ─ publish ─┘
             ├ encode[all other rungs x range, from one decode] ─ package ─ publish (after the first)
             └ poster ─ publish
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
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
    descriptions,
    drop_rendition,
    mark_ready,
    record_finished,
    record_plan,
    record_progress,
    record_stills,
)
from origin.transcode.encoding.audio import SoundSettings
from origin.transcode.encoding.encode import EncodeSettings
from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import FrameRange, Plan, ceiling_bps, make_plan, sound_segments, sound_windows
from origin.transcode.failure import FailureKind, TaskFailed
from origin.transcode.graph.cluster import TaskCluster, threads_for
from origin.transcode.graph.fair import SOON_S, FairGate, Stage, niceness
from origin.transcode.graph.journal import Journal, VideoNotes
from origin.transcode.graph.measuring import measure_rungs
from origin.transcode.graph.running import TaskRunner
from origin.transcode.graph.tasks import (
    AUDIO_CODEC,
    VIDEO_CODEC,
    PackagedRung,
    Source,
    described,
    run_audio,
    run_encode,
    run_package,
    run_poster,
    run_probe,
    run_storyboard,
)
from origin.transcode.media.source import Bounds, ProbeReport
from origin.transcode.metrics import FIRST_PLAYABLE
from origin.transcode.publishing.beginning import Beginning
from origin.transcode.publishing.publish import Publisher
from origin.transcode.publishing.rendition import Rendition, rendition_from_json
from origin.transcode.publishing.showing import Showing

Result = TypeVar("Result")

AUDIO_PEAK = 1300  # bit/s per kbit/s asked for: AAC's rate varies, and stays below 1.3 times its mean


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all videos share."""

    engine: AsyncEngine
    cluster: TaskCluster
    gate: FairGate
    settings: Transcode
    journal: Journal
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was found in the file, and what will be made of it."""

    report: ProbeReport
    plan: Plan

    @property
    def language(self) -> str:
        return self.report.audio.language if self.report.audio else ""


class VideoMaking:
    """The making of one video; `run` does it all, and calls `playable` with its id as soon as viewers can begin."""

    def __init__(
        self,
        shop: Workshop,
        video_id: VideoId,
        source: Source,
        publisher: Publisher,
        log: Log,
        playable: Callable[[VideoId], None],
        notes: VideoNotes,
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        """`settled` returns when what was begun before the upload was complete is there, if it will be soon."""
        self._shop = shop
        self._video_id = video_id
        self._source = source
        self._settled = settled
        self._publisher = publisher
        self._log = log.bind(video_id=video_id)
        self._tasks = TaskRunner(shop.cluster, shop.gate, shop.settings.attempts, video_id, notes, self._log)
        self._began = shop.clock()
        self._whole: list[PackagedRung] = []
        self._window_made = asyncio.Event()  # the first window is encoded: what comes after it may be asked for
        self._underway = asyncio.Event()  # all of the first rung is asked for, so what comes after it may be too
        self._marking = asyncio.Lock()
        self._playable: Callable[[VideoId], None] | None = playable

    async def run(self) -> list[TaskFailed]:
        """Makes everything. Raises TaskFailed when not even one rung came to its end; returns what failed after that."""
        settings = self._shop.settings
        bounds = Bounds(settings.max_pixels, settings.max_duration)
        report = await self._tasks.run("probe", "probe", Stage.PROBE, run_probe, self._source, bounds)
        made = Inspected(report, make_plan(report, settings))
        plan = made.plan
        self._log.info(
            "planned", rungs=[rung.name for rung in plan.rungs], ranges=len(plan.ranges), seconds=float(report.duration)
        )
        showing = Showing(self._publisher, plan.timing, self._shop.clock, self._log)
        await self._record(made, showing)
        await self._settled()
        others = asyncio.Event()  # set when the first rung is out
        work = [partial(self._poster, report)]
        if plan.rungs[1:]:
            work.append(partial(self._later_rungs, made, showing, others))
        running = [asyncio.create_task(_outcome(item)) for item in work]
        try:
            first = await self._first_rung(made, showing)
            others.set()
            running.append(asyncio.create_task(_outcome(partial(self._storyboard, plan, first))))
            outcomes = await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        shop = self._shop
        await measure_rungs(
            shop.engine, settings, self._tasks, self._video_id, self._source, report, plan, self._whole, self._log
        )
        return [failed for failed in outcomes if failed is not None]

    async def _first_rung(self, made: Inspected, showing: Showing) -> PackagedRung:
        """The lowest useful rung and the sound, shown while they grow and when they are whole."""
        work = [self._rebuilt(partial(self._rungs, made, made.plan.rungs[:1], showing))]
        if made.plan.audio_kbps is not None:
            work.append(self._rebuilt(partial(self._sound, made, showing, made.plan.audio_kbps)))
        (first,), *sound = await all_or_first_failure(work)
        await self._finish(showing, [first, *(item for items in sound for item in items)])
        return first

    async def _later_rungs(self, made: Inspected, showing: Showing, others: asyncio.Event) -> None:
        """All other rungs, from one decode; when that fails, each by itself, so that one that cannot be made costs no other."""
        rungs = made.plan.rungs[1:]
        await self._underway.wait()
        try:
            packaged = await self._rebuilt(partial(self._rungs, made, rungs))
        except TaskFailed as failed:
            if failed.kind is FailureKind.DISK_FULL:
                raise  # no rung is at fault, and none is given up
            if len(rungs) == 1 and not rungs[0].copied:
                await self._dropped(rungs[0].name)
                raise
            self._log.warning("rungs are made singly", failure=failed.kind, detail=failed.detail)
        else:
            await others.wait()
            await self._finish(showing, packaged)
            return
        anew = [replace(rung, copied=False) for rung in rungs]  # a copy may be what did not pass
        outcomes = [await _outcome(partial(self._later_rung, made, showing, rung, others)) for rung in anew]
        if failures := [outcome for outcome in outcomes if outcome is not None]:
            raise failures[0]

    async def _later_rung(self, made: Inspected, showing: Showing, rung: VideoRung, others: asyncio.Event) -> None:
        try:
            packaged = await self._rebuilt(partial(self._rungs, made, [rung]))
        except TaskFailed as failed:
            if failed.kind is not FailureKind.DISK_FULL:
                await self._dropped(rung.name)
            raise
        await others.wait()
        await self._finish(showing, packaged)

    async def _rebuilt(self, make: Callable[[], Awaitable[Result]]) -> Result:
        """What `make` gives. When outputs were lost meanwhile it runs again: what is there is found, what is missing is made."""
        for _ in range(self._shop.settings.attempts - 1):
            try:
                return await make()
            except TaskFailed as failed:
                if failed.kind is not FailureKind.OUTPUT_LOST:
                    raise
        return await make()

    async def _dropped(self, rung: str) -> None:
        await drop_rendition(self._shop.engine, self._video_id, VIDEO_CODEC, rung)

    async def _rungs(self, made: Inspected, rungs: Sequence[VideoRung], showing: Showing | None = None) -> list[PackagedRung]:
        """All ranges of some rungs, joined and checked; those of a rung that is shown as it grows go before the others'."""
        plan, settings = made.plan, self._shop.settings
        ranges = plan.ranges if showing is not None else plan.other_ranges
        names = "+".join(rung.name for rung in rungs)
        beginning = self._beginning(made, rungs[0]) if showing is not None else None
        done = 0

        async def encode(part: FrameRange) -> tuple[Path, ...]:
            nonlocal done
            window = showing is not None and part.index == 0
            if not window:
                await self._window_made.wait()
            if showing is not None and part is ranges[-1]:
                self._underway.set()
            stage = Stage.OTHER_RUNGS if showing is None else _stage_at(float(part.first / plan.timing.frame_rate))
            encoding = EncodeSettings(
                settings.preset, threads_for(settings, alone=window), settings.task_timeout, niceness(stage)
            )
            arguments = (self._source, made.report, plan.timing, rungs, part, encoding)
            name, media_s = f"encode/{names}/{part.index}", float(part.frames / plan.timing.frame_rate)
            folders = await self._tasks.run("encode", name, stage, run_encode, *arguments, media_s=media_s)
            self._window_made.set()
            done += part.frames
            if showing is not None:
                await self._landed(showing, beginning, part.index, folders[0])
            for rung in rungs:
                await self._progress(VIDEO_CODEC, rung.name, done / plan.timing.frames)
            return folders

        parts = await all_or_first_failure([encode(part) for part in ranges])
        stage = Stage.OTHER_RUNGS if showing is None else _packaging_stage(len(parts), plan)
        packaging = [
            self._tasks.run(
                "package", f"package/{rung.name}", stage, run_package,
                self._source, "video", rung.name, [folders[place] for folders in parts], rung, plan.timing, "",
            )
            for place, rung in enumerate(rungs)
        ]  # fmt: skip
        return await all_or_first_failure(packaging)

    def _beginning(self, made: Inspected, rung: VideoRung) -> Beginning:
        describe = partial(described, "video", rung.name, rung=rung, timing=made.plan.timing, language="")
        return Beginning(len(made.plan.ranges), describe, ceiling_bps(rung, made.plan.timing))

    async def _sound(self, made: Inspected, showing: Showing, kbps: int) -> list[PackagedRung]:
        plan, settings = made.plan, self._shop.settings
        describe = partial(described, "audio", plan.audio_name, rung=None, timing=plan.timing, language=made.language)
        windows = sound_windows(sound_segments(plan.timing))
        beginning = Beginning(len(windows), describe, AUDIO_PEAK * kbps)
        folders: list[Path] = []
        for window in windows:
            stage = Stage.EARLY if len(folders) > 1 else (Stage.SOON if folders else Stage.FIRST_WINDOW)
            sound = SoundSettings(kbps, settings.task_timeout, niceness(stage))
            arguments = (self._source, made.report, plan.timing, sound, window)
            folders.append(await self._tasks.run("audio", f"audio/{len(folders)}", stage, run_audio, *arguments))
            await self._landed(showing, beginning, len(folders) - 1, folders[-1])
            await self._progress(AUDIO_CODEC, plan.audio_name, window.until / windows[-1].until)
        packaging = (self._source, "audio", plan.audio_name, folders, None, plan.timing, made.language)
        stage = _packaging_stage(len(folders), plan)
        return [await self._tasks.run("package", "package/audio", stage, run_package, *packaging)]

    async def _landed(self, showing: Showing, beginning: Beginning | None, place: int, folder: Path) -> None:
        """One more part is there: viewers get what joins the beginning."""
        if beginning is not None and (begun := await beginning.land(place, folder)) is not None:
            await showing.grow(begun)
            await self._mark_playable(showing)

    async def _mark_playable(self, showing: Showing) -> None:
        async with self._marking:
            if not showing.playable or self._playable is None:
                return
            await mark_ready(self._shop.engine, self._video_id, self._shop.clock())
            took_s = self._shop.clock() - self._began
            FIRST_PLAYABLE.observe(took_s)
            self._log.info("ready", took_s=round(took_s, 3))
            self._playable(self._video_id)
            self._playable = None

    async def _poster(self, report: ProbeReport) -> None:
        timeout_s = self._shop.settings.task_timeout
        await self._window_made.wait()
        poster = await self._tasks.run("poster", "poster", Stage.EARLY, run_poster, self._source, report, timeout_s)
        await self._publisher.stills([(POSTER, poster)])
        await record_stills(self._shop.engine, self._video_id, self._shop.clock(), poster=True)

    async def _storyboard(self, plan: Plan, first: PackagedRung) -> None:
        arguments = (self._source, first, plan.rungs[0], plan.timing, self._shop.settings.task_timeout)
        files = await self._tasks.run("storyboard", "storyboard", Stage.STILLS, run_storyboard, *arguments)
        await self._publisher.stills(files)
        await record_stills(self._shop.engine, self._video_id, self._shop.clock(), storyboard=True)

    async def _record(self, made: Inspected, showing: Showing) -> None:
        plan, rate = made.plan, fraction(made.plan.timing.frame_rate)
        planned = [PlannedRendition(VIDEO_CODEC, r.name, "video", r.width, r.height, rate) for r in plan.rungs]
        sound = (AUDIO_CODEC, plan.audio_name) if plan.audio_kbps is not None else None
        if sound is not None:
            planned.append(PlannedRendition(*sound, "audio"))
        ready = await record_plan(
            self._shop.engine,
            self._video_id,
            duration_s=float(plan.timing.duration),
            width=made.report.width,
            height=made.report.height,
            frame_rate=rate,
            planned=planned,
            now=self._shop.clock(),
        )
        growing = [(VIDEO_CODEC, plan.rungs[0].name), *([sound] if sound is not None else [])]
        known = [rendition_from_json(text) for text in await descriptions(self._shop.engine, self._video_id)]
        await showing.resume(ready, growing, sound, {(item.codec, item.rung): item for item in known})

    async def _progress(self, codec: str, rung: str, progress: float) -> None:
        await record_progress(self._shop.engine, self._video_id, codec, rung, min(progress, 0.99), self._shop.clock())

    async def _finish(self, showing: Showing, packaged: Sequence[PackagedRung]) -> None:
        """Whole rungs: viewers first, then the catalogue."""
        shown = await showing.finish(packaged)
        await self._mark_playable(showing)
        for rendition in shown:
            await self._finished(rendition)
        self._whole += packaged

    async def _finished(self, rendition: Rendition) -> None:
        facts = FinishedRendition(
            codecs=rendition.codecs,
            bandwidth_bps=rendition.bandwidth_bps,
            average_bandwidth_bps=rendition.average_bandwidth_bps,
            segments=len(rendition.segments),
            size_bytes=rendition.size_bytes,
            description=rendition.to_json(),
        )
        await record_finished(self._shop.engine, self._video_id, rendition.codec, rendition.rung, facts, self._shop.clock())
        self._log.info("published", rung=rendition.path, segments=facts.segments, bytes=facts.size_bytes)


def _stage_at(seconds: float) -> Stage:
    """Of a range of the first rung that begins there."""
    return Stage.FIRST_WINDOW if seconds == 0 else (Stage.SOON if seconds < SOON_S else Stage.PLAYABLE)


def _packaging_stage(parts: int, plan: Plan) -> Stage:
    """What is whole with its first window is not shown before it is packaged; a short clip is whole before it was watched."""
    if parts == 1:
        return Stage.FIRST_WINDOW
    return Stage.SOON if plan.timing.duration <= SOON_S else Stage.EARLY


async def _outcome(work: Callable[[], Awaitable[None]]) -> TaskFailed | None:
    """The failure of work that nobody else depends on."""
    try:
        await work()
    except TaskFailed as failed:
        return failed
    return None


async def all_or_first_failure(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
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


def fraction(rate: Fraction) -> str:
    return f"{rate.numerator}/{rate.denominator}"
