"""How good each rung looks, measured after viewers have it, when nothing else is to be done. What fails takes nothing away."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from headwater.settings.origin import Transcode
from origin.catalogue.renditions import record_quality
from origin.transcode.encoding.plan import Plan
from origin.transcode.failure import TaskFailed
from origin.transcode.graph.fair import Stage
from origin.transcode.graph.running import TaskRunner
from origin.transcode.graph.tasks import PackagedRung, Source, run_quality
from origin.transcode.media.source import ProbeReport
from origin.transcode.metrics import VMAF
from origin.transcode.programs.tools import find_ffmpeg


async def measure_rungs(
    engine: AsyncEngine,
    settings: Transcode,
    tasks: TaskRunner,
    video_id: VideoId,
    source: Source,
    report: ProbeReport,
    plan: Plan,
    packaged: Sequence[PackagedRung],
    log: Log,
) -> None:
    """Nothing where the settings want no samples, or this ffmpeg has no libvmaf."""
    if not settings.vmaf_samples or not find_ffmpeg(source.ffmpeg).measures_vmaf:
        return
    largest = max(plan.rungs, key=lambda rung: rung.short_side)
    for item in packaged:
        rendition = item.rendition
        if rendition.kind != "video":
            continue
        arguments = (source, report, plan.timing, largest, item, settings.vmaf_samples, settings.task_timeout)
        try:
            quality = await tasks.run("quality", f"quality/{rendition.path}", Stage.BESIDES, run_quality, *arguments)
        except TaskFailed as failed:
            log.warning("a rung's quality is not known", rung=rendition.path, failure=failed.kind)
            continue
        VMAF.labels(rendition.codec, rendition.rung).observe(quality.mean)
        await record_quality(engine, video_id, rendition.codec, rendition.rung, quality.mean, quality.low, quality.seconds)
