"""The whole ladder as the transcoder makes it, beside one ffmpeg process that makes the same ladder from one decode.

python -m bench.ladder [SECONDS] [ROUNDS] [--write]     (--write puts the table into docs/benchmarks.md)

The same source, rungs, preset, caps and GOPs. Ours is the tasks themselves: the first rung by itself, the others from one decode
a range, as many tasks at once as there are processors, with their checks and packaging. Both run in turn, several times; on a
machine that has other work the ratio of CPU seconds says more than that of times.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.firstframe import source
from bench.placing import placed
from headwater.settings.origin import Transcode
from origin.transcode.encoding.encode import EncodeSettings
from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import FrameRange, Plan, make_plan
from origin.transcode.graph.tasks import Source, run_encode, run_package, run_probe
from origin.transcode.media.source import Bounds, ProbeReport
from origin.transcode.programs.tools import find_ffmpeg
from tests.support.deployments import ROOT

SECONDS, ROUNDS = 60, 2
STALL_S = 600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run: wall and processor seconds."""

    wall_s: float
    cpu_s: float


def cost_of(work: Callable[[], object]) -> Cost:
    def cpu() -> float:
        children, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
        return children.ru_utime + children.ru_stime + own.ru_utime + own.ru_stime

    cpu_before, before = cpu(), time.perf_counter()
    work()
    return Cost(time.perf_counter() - before, cpu() - cpu_before)


def ours(master: Path, work: Path, report: ProbeReport, plan: Plan, settings: Transcode) -> None:
    """The encodes of a whole video in the order in which they are asked for."""
    origin = Source(master, "0" * 64, work, settings.ffmpeg)
    encoding = EncodeSettings(settings.preset, 1, STALL_S)

    def encode(task: tuple[tuple[VideoRung, ...], FrameRange]) -> tuple[Path, ...]:
        return run_encode(origin, report, plan.timing, task[0], task[1], encoding)

    groups = [(group, ranges) for group, ranges in ((plan.rungs[:1], plan.ranges), (plan.rungs[1:], plan.other_ranges)) if group]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = [(group, pool.map(encode, [(group, part) for part in ranges])) for group, ranges in groups]
    for group, results in made:
        parts = list(results)
        for place, rung in enumerate(group):
            run_package(origin, "video", rung.name, [folders[place] for folders in parts], rung, plan.timing, "")


def one_process(master: Path, folder: Path, plan: Plan, settings: Transcode) -> None:
    """ffmpeg with its own choice of threads, into one MP4 a rung."""
    rate = plan.timing.frame_rate
    names = [f"[{rung.name}]" for rung in plan.rungs]
    graph = f"[0:v]fps={rate.numerator}/{rate.denominator},split={len(names)}{''.join(f'[s{name[1:]}' for name in names)}"
    scaled = [f"[s{r.name}]scale={r.width}:{r.height}:flags=bicubic,setsar=1,format=yuv420p[{r.name}]" for r in plan.rungs]
    command = [find_ffmpeg(settings.ffmpeg).path, "-hide_banner", "-nostdin", "-loglevel", "error", "-i", str(master)]
    command += ["-filter_complex", ";".join([graph, *scaled])]
    gop = str(plan.timing.gop_frames)
    for rung in plan.rungs:
        command += ["-map", f"[{rung.name}]", "-c:v", "libx264", "-preset", settings.preset, "-crf", f"{rung.crf:g}"]
        command += ["-maxrate", f"{rung.max_bitrate_kbps}k", "-bufsize", f"{2 * rung.max_bitrate_kbps}k", "-bf", "2"]
        command += ["-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-f", "mp4", "-y", str(folder / f"{rung.name}.mp4")]
    subprocess.run(command, check=True)


def run(folder: Path, seconds: int, rounds: int) -> str:
    settings, load = Transcode(), os.getloadavg()[0]
    master = source(folder, seconds)
    probing = folder / "probing"
    report = run_probe(Source(master, "0" * 64, probing, "auto"), Bounds(settings.max_pixels, settings.max_duration))
    plan = make_plan(report, settings)
    rows: list[tuple[Cost, Cost]] = []
    for number in range(rounds):
        single = folder / f"single-{number}"
        single.mkdir()
        theirs = cost_of(lambda single=single: one_process(master, single, plan, settings))  # type: ignore[misc]
        mine = cost_of(lambda number=number: ours(master, folder / f"work-{number}", report, plan, settings))  # type: ignore[misc]
        rows.append((mine, theirs))
    return table(rows, plan, float(plan.timing.duration), load)


def table(rows: list[tuple[Cost, Cost]], plan: Plan, duration_s: float, load: float) -> str:
    rungs = ", ".join(rung.name for rung in plan.rungs)
    lines = [
        "## The whole ladder beside one ffmpeg process",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `python -m bench.ladder`, {os.cpu_count()} cores, load average when "
        f"it began: {load:.1f}. {duration_s:.0f} s of 1080p H.264 to {rungs}; without sound.",
        "Throughput is that of ours relative to one process that makes all rungs from one decode, each from the source: above 1 "
        "is faster. Ours decodes twice, for the first rung and for the others, and scales the smaller rungs from larger ones.",
        "",
        "| round | ours s | ours CPU s | one process s | one process CPU s | throughput by time | by CPU |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for number, (mine, theirs) in enumerate(rows, 1):
        ratios = f"**{theirs.wall_s / mine.wall_s:.2f}** | {theirs.cpu_s / mine.cpu_s:.2f}"
        lines.append(f"| {number} | {mine.wall_s:.1f} | {mine.cpu_s:.1f} | {theirs.wall_s:.1f} | {theirs.cpu_s:.1f} | {ratios} |")
    return "\n".join([*lines, ""])


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    with tempfile.TemporaryDirectory() as made:
        text = run(Path(made), *[*numbers, *(SECONDS, ROUNDS)[len(numbers) :]])
    print(text)
    if "--write" in sys.argv[1:]:
        placed(ROOT / "docs" / "benchmarks.md", "ladder", text)


if __name__ == "__main__":
    main()
