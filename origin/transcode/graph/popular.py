"""AV1 for a video that became popular: more rungs beside those that it has, one after another, each shown when it is whole.

    probe ─ plan ─ for each rung, smallest first: encode[range] ─ package ─ publish ─ manifests over all rungs

Nothing that viewers have is touched: new files get new names, and both manifests are replaced whole. Players that are running go
on with the manifest they have; those that do not know AV1 pass its variants over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from headwater.settings.origin import Av1
from origin.catalogue.renditions import (
    FinishedRendition,
    PlannedRendition,
    descriptions,
    drop_rendition,
    record_finished,
    record_more,
    record_progress,
)
from origin.catalogue.views import queue_popular
from origin.transcode.encoding.encode import EncodeSettings
from origin.transcode.encoding.ladder import AV1, H264, VideoRung, av1_rungs
from origin.transcode.encoding.plan import FrameRange, Plan, make_plan
from origin.transcode.failure import FailureKind, TaskFailed
from origin.transcode.graph.cluster import threads_for
from origin.transcode.graph.fair import Stage, niceness
from origin.transcode.graph.journal import VideoNotes
from origin.transcode.graph.making import Workshop, all_or_first_failure, fraction
from origin.transcode.graph.measuring import measure_rungs
from origin.transcode.graph.running import TaskRunner
from origin.transcode.graph.tasks import PackagedRung, Source, run_encode, run_package, run_probe
from origin.transcode.media.source import Bounds, ProbeReport
from origin.transcode.metrics import POPULAR
from origin.transcode.publishing.publish import Publisher
from origin.transcode.publishing.rendition import Rendition, rendition_from_json
from origin.transcode.publishing.showing import Showing

LOOK_S = 30.0


async def queue_for_ever(shop: Workshop, av1: Av1, log: Log, every_s: float = LOOK_S) -> None:
    """Queues what became popular."""
    while True:
        now = shop.clock()
        for video_id in await queue_popular(shop.engine, now - av1.within, av1.after_views, now):
            POPULAR.inc()
            log.info("video became popular", video_id=video_id, views_at_least=av1.after_views)
        await asyncio.sleep(every_s)


class AddingAv1:
    """The AV1 rungs of one video."""

    def __init__(
        self, shop: Workshop, video_id: VideoId, source: Source, publisher: Publisher, log: Log, notes: VideoNotes
    ) -> None:
        self._shop = shop
        self._video_id = video_id
        self._source = source
        self._publisher = publisher
        self._log = log.bind(video_id=video_id)
        self._tasks = TaskRunner(shop.cluster, shop.gate, shop.settings.attempts, video_id, notes, self._log)

    async def run(self, av1: Av1) -> None:
        """Raises TaskFailed; rungs that were made before it stay."""
        settings = self._shop.settings
        bounds = Bounds(settings.max_pixels, settings.max_duration)
        report = await self._tasks.run("probe", "probe", Stage.BESIDES, run_probe, self._source, bounds)
        plan = make_plan(report, settings)
        there = [rendition_from_json(text) for text in await descriptions(self._shop.engine, self._video_id)]
        rungs = _missing(plan, there, av1)
        rate = fraction(plan.timing.frame_rate)
        planned = [PlannedRendition(AV1, rung.name, "video", rung.width, rung.height, rate) for rung in rungs]
        await record_more(self._shop.engine, self._video_id, planned, self._shop.clock())
        showing = Showing(self._publisher, plan.timing, self._shop.clock, self._log)
        showing.already(there)
        for place, rung in enumerate(rungs):
            try:
                await self._add(plan, report, rung, str(av1.preset), showing)
            except TaskFailed as failed:
                if failed.kind is not FailureKind.DISK_FULL:
                    for given_up in rungs[place:]:
                        await drop_rendition(self._shop.engine, self._video_id, AV1, given_up.name)
                raise

    async def _add(self, plan: Plan, report: ProbeReport, rung: VideoRung, preset: str, showing: Showing) -> None:
        settings, done = self._shop.settings, 0

        async def encode(part: FrameRange) -> Path:
            nonlocal done
            encoding = EncodeSettings(preset, threads_for(settings, alone=False), settings.task_timeout, niceness(Stage.BESIDES))
            arguments = (self._source, report, plan.timing, [rung], part, encoding)
            name, media_s = f"encode/av1/{rung.name}/{part.index}", float(part.frames / plan.timing.frame_rate)
            [folder] = await self._tasks.run("encode", name, Stage.BESIDES, run_encode, *arguments, media_s=media_s)
            done += part.frames
            now = self._shop.clock()
            await record_progress(self._shop.engine, self._video_id, AV1, rung.name, min(done / plan.timing.frames, 0.99), now)
            return folder

        folders = await all_or_first_failure([encode(part) for part in plan.ranges])
        packaged = await self._tasks.run(
            "package", f"package/av1/{rung.name}", Stage.BESIDES, run_package,
            self._source, "video", rung.name, folders, rung, plan.timing, "",
        )  # fmt: skip
        await showing.finish([packaged])
        await self._finished(packaged)
        shop = self._shop
        await measure_rungs(shop.engine, settings, self._tasks, self._video_id, self._source, report, plan, [packaged], self._log)

    async def _finished(self, packaged: PackagedRung) -> None:
        facts = finished_facts(packaged.rendition)
        rung = packaged.rendition.rung
        await record_finished(self._shop.engine, self._video_id, AV1, rung, facts, self._shop.clock())
        self._log.info("published", rung=packaged.rendition.path, segments=facts.segments, bytes=facts.size_bytes)


def finished_facts(rendition: Rendition) -> FinishedRendition:
    return FinishedRendition(
        codecs=rendition.codecs,
        bandwidth_bps=rendition.bandwidth_bps,
        average_bandwidth_bps=rendition.average_bandwidth_bps,
        segments=len(rendition.segments),
        size_bytes=rendition.size_bytes,
        description=rendition.to_json(),
    )


def _missing(plan: Plan, there: Sequence[Rendition], av1: Av1) -> tuple[VideoRung, ...]:
    """The AV1 rungs beside H.264 ones that viewers have, without those that an earlier run made."""
    published = {one.rung for one in there if one.codec == H264}
    made = {one.rung for one in there if one.codec == AV1}
    return av1_rungs([rung for rung in plan.rungs if rung.name in published - made], av1)
