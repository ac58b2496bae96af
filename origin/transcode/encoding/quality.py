"""VMAF of a rung: what viewers see of it, against what was uploaded, where this ffmpeg has libvmaf.

A few samples of one GOP each, spread over the video, so that a film costs no more than a clip. Both pictures are compared in the
size of the largest rung: a small rung is seen enlarged. The reference passes the filters that the encoder's input passes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from origin.transcode.encoding.encode import check_ending, filter_graph, seconds_text
from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import Timing
from origin.transcode.failure import FailureKind, TaskFailed
from origin.transcode.media.source import ProbeReport
from origin.transcode.programs.child import LAST_OF_ALL, Limits, run_child
from origin.transcode.programs.tools import Ffmpeg, common_arguments, hostile_input

SAMPLE, LOG = "sample.mp4", "vmaf.json"
EVERY = 2  # one picture of two is compared
REFERENCE = "reference"
CPU_S = 600


@dataclass(frozen=True, slots=True)
class Quality:
    """VMAF, 100 being the source: the mean over `seconds` of samples, and that of the worst sampled second."""

    mean: float
    low: float
    seconds: float


def sampled_segments(segments: int, samples: int) -> list[int]:
    """Numbers of the segments whose first GOP is compared, spread evenly; each once."""
    return sorted({(2 * place + 1) * segments // (2 * samples) for place in range(samples)})


def measure_quality(
    ffmpeg: Ffmpeg,
    master: Path,
    report: ProbeReport,
    timing: Timing,
    largest: VideoRung,
    init: Path,
    segments: Sequence[Path],
    samples: int,
    stall_s: float,
    folder: Path,
) -> Quality:
    """`segments` are all of the rung, in order. Raises TaskFailed."""
    scores: list[list[float]] = []
    for number in sampled_segments(len(segments), samples):
        (folder / SAMPLE).write_bytes(init.read_bytes() + segments[number].read_bytes())
        limits = Limits(cpu_s=CPU_S, file_bytes=2**26, stall_s=stall_s, nice=LAST_OF_ALL)
        at = number * timing.segment_frames / timing.frame_rate
        check_ending(run_child(_command(ffmpeg, master, report, timing, largest, number), folder, limits), float(at))
        scores.append(_scores((folder / LOG).read_text(encoding="utf-8")))
    every = [score for sample in scores for score in sample]
    if not every:
        raise TaskFailed(FailureKind.TOOL_FAILED, "No picture could be compared.")
    second = max(1, round(timing.frame_rate) // EVERY)
    low = min(fmean(sample[at : at + second]) for sample in scores for at in range(max(1, len(sample) - second + 1)) if sample)
    return Quality(round(fmean(every), 2), round(low, 2), round(len(every) * EVERY / float(timing.frame_rate), 2))


def _command(ffmpeg: Ffmpeg, master: Path, report: ProbeReport, timing: Timing, largest: VideoRung, number: int) -> list[str]:
    start = report.zero + number * timing.segment_frames / timing.frame_rate
    seek = ["-noaccurate_seek", "-seek_timestamp", "1", "-ss", seconds_text(start)] if number and report.seekable else []
    reference = replace(largest, name=REFERENCE, copied=False)
    rate = f"{timing.frame_rate.numerator}/{timing.frame_rate.denominator}"
    size = f"scale={largest.width}:{largest.height}:flags=bicubic,setsar=1,format=yuv420p"
    graph = [
        filter_graph(ffmpeg, report, timing, [reference], start, 0),
        f"[{REFERENCE}]trim=end_frame={timing.gop_frames},settb=1/{timing.timescale},setpts=N*{timing.frame_ticks}[a]",
        f"[1:v:0]fps={rate},trim=end_frame={timing.gop_frames},settb=1/{timing.timescale},setpts=N*{timing.frame_ticks},{size}[b]",
        f"[b][a]libvmaf=log_fmt=json:log_path={LOG}:n_threads=1:n_subsample={EVERY}:shortest=1[scored]",
    ]
    return [
        *common_arguments(ffmpeg),
        *("-filter_complex_threads", "1", "-threads", "1", "-copyts", *seek, *hostile_input(master)),
        *("-threads", "1", *hostile_input(Path(SAMPLE))),
        *("-filter_complex", ";".join(graph), "-map", "[scored]", "-frames:v", str(timing.gop_frames), "-f", "null", "-"),
    ]


def _scores(log: str) -> list[float]:
    """Of each compared picture, in order. Raises TaskFailed."""
    try:
        return [float(frame["metrics"]["vmaf"]) for frame in json.loads(log)["frames"]]
    except (ValueError, KeyError, TypeError) as error:
        raise TaskFailed(FailureKind.TOOL_FAILED, "What libvmaf wrote cannot be read.", repr(error)) from error
