"""Encodes one range of one or several rungs from one decode, and cuts it into the segments it stands for.

ffmpeg's own segmenting restarts times with each range and writes a different header each time. So it writes plain
fragments from time 0 here, and the segments are written anew from their samples, at their place in the whole video.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

from headwater.rules.mediapath import INIT, segment_name
from origin.transcode.encoding.ladder import AV1, VideoRung
from origin.transcode.encoding.plan import BUFFER_S, REORDERED_FRAMES, FrameRange, Timing
from origin.transcode.failure import FailureKind, TaskFailed, no_room
from origin.transcode.media.initsegment import canonical_init, codecs, timescale, with_stream_header
from origin.transcode.media.isobmff import (
    DEPENDENT_FLAGS,
    SYNC_FLAGS,
    NotIsoBmff,
    Sample,
    encode_segment,
    read_moov,
    read_samples,
)
from origin.transcode.media.source import ProbeReport
from origin.transcode.programs.child import ChildResult, Ending, Limits, run_child
from origin.transcode.programs.tools import Ffmpeg, common_arguments, hostile_input

FRAGMENTS = "fragments.mp4"
MOST_SVT_PARALLELISM = 6
CPU_PER_VIDEO_SECOND = 120  # a slow preset at 2160p stays well below
# Pictures that say that they are two fields become whole ones; all others pass as they are.
DEINTERLACE = "bwdif=mode=send_frame:deint=interlaced"
# HDR to BT.709. White of ITU-R BT.2408 (203 nits) stays nearly white: of the curves that do not clip, mobius was the brightest.
TONE_MAP = (
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:desat=0,zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """What the encoder is told besides the rung."""

    preset: str
    threads: int
    stall_s: float
    nice: int = 0


def encode_range(
    ffmpeg: Ffmpeg,
    master: Path,
    report: ProbeReport,
    timing: Timing,
    rungs: Sequence[VideoRung],
    part: FrameRange,
    settings: EncodeSettings,
    folder: Path,
) -> None:
    """Writes the range's segments and `init.mp4` of each rung into a folder of its name in `folder`. Raises TaskFailed."""
    for rung in rungs:
        (folder / rung.name).mkdir()
    command = encode_command(ffmpeg, master, report, timing, rungs, part, settings)
    seconds = math.ceil(part.frames / timing.frame_rate) + 30
    room = 64 * 2**20 + max(rung.max_bitrate_kbps for rung in rungs) * 1000 * seconds  # of one file: eight times the cap
    cpu_s = CPU_PER_VIDEO_SECOND * seconds * len(rungs)
    limits = Limits(cpu_s=cpu_s, file_bytes=room, stall_s=settings.stall_s, nice=settings.nice)
    check_ending(run_child(command, folder, limits), float(part.first / timing.frame_rate))
    for rung in rungs:
        fragments = folder / rung.name / FRAGMENTS
        try:
            cut_video(fragments, timing, part, folder / rung.name, delay=0 if rung.codec == AV1 else timing.delay_ticks)
        except NotIsoBmff as error:
            raise TaskFailed(FailureKind.INCONSISTENT, f"What ffmpeg wrote cannot be cut: {error}.") from error
        fragments.unlink()


def encode_command(
    ffmpeg: Ffmpeg,
    master: Path,
    report: ProbeReport,
    timing: Timing,
    rungs: Sequence[VideoRung],
    part: FrameRange,
    settings: EncodeSettings,
) -> list[str]:
    """Decodes from the keyframe before the range; the picture shown at the range's start may be an earlier one."""
    # Where the sound goes on after the picture, the last picture stands: such ranges begin at it.
    last_picture = max(0, math.ceil((report.video_end - report.zero) * timing.frame_rate) - 1)
    from_frame = min(part.first, last_picture)
    start = report.zero + from_frame / timing.frame_rate
    seek = ["-noaccurate_seek", "-seek_timestamp", "1", "-ss", seconds_text(start)] if from_frame and report.seekable else []
    # A decoder of one thread wastes nothing; where somebody waits, or only one rung is made, it gets as many as the encoder.
    decoding = ["-threads", str(settings.threads)]
    encoded = [rung for rung in rungs if not rung.copied]
    graph = ["-filter_complex", filter_graph(ffmpeg, report, timing, encoded, start, part.first - from_frame)] if encoded else []
    return [
        *common_arguments(ffmpeg),
        *("-filter_complex_threads", str(settings.threads), *decoding, "-copyts", *seek, *hostile_input(master)),
        *graph,
        *(argument for rung in encoded for argument in rung_output(timing, rung, part, settings)),
        *(argument for rung in rungs if rung.copied for argument in copied_output(report, timing, rung, part)),
    ]


def rung_output(timing: Timing, rung: VideoRung, part: FrameRange, settings: EncodeSettings) -> list[str]:
    """The output file of one rung."""
    gop = str(timing.gop_frames)
    if rung.codec == AV1:
        return av1_output(timing, rung, part, settings)
    return [
        *("-map", f"[{rung.name}]", "-map_metadata", "-1", "-map_chapters", "-1"),
        *("-frames:v", str(part.frames), "-c:v", "libx264", "-preset", settings.preset, "-threads", str(settings.threads)),
        *("-crf", f"{rung.crf:g}", "-maxrate", f"{rung.max_bitrate_kbps}k", "-bufsize", f"{BUFFER_S * rung.max_bitrate_kbps}k"),
        *("-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-pix_fmt", "yuv420p", "-bf", str(REORDERED_FRAMES)),
        *("-flags:v", "+cgop+bitexact", *_fragments(timing, rung)),
    ]


def av1_output(timing: Timing, rung: VideoRung, part: FrameRange, settings: EncodeSettings) -> list[str]:
    """By SVT-AV1 in capped constant quality. Every GOP begins with a key frame (irefresh-type 2), and nothing else does (scd)."""
    cap = rung.max_bitrate_kbps
    return [
        *("-map", f"[{rung.name}]", "-map_metadata", "-1", "-map_chapters", "-1"),
        *("-frames:v", str(part.frames), "-c:v", "libsvtav1", "-preset", settings.preset, "-crf", f"{rung.crf:g}"),
        *("-maxrate", f"{cap}k", "-bufsize", f"{BUFFER_S * cap}k", "-g", str(timing.gop_frames), "-pix_fmt", "yuv420p"),
        *("-svtav1-params", f"scd=0:irefresh-type=2:lp={min(settings.threads, MOST_SVT_PARALLELISM)}"),
        *("-flags:v", "+bitexact", *_fragments(timing, rung)),
    ]


def copied_output(report: ProbeReport, timing: Timing, rung: VideoRung, part: FrameRange) -> list[str]:
    """The output file of a rung that the source is as it is. The range begins at a keyframe, which seeking finds."""
    return [
        *("-map", f"0:{report.video_index}", "-map_metadata", "-1", "-map_chapters", "-1", "-copypriorss", "1"),
        *("-frames:v", str(part.frames), "-c:v", "copy", *_fragments(timing, rung)),
    ]


def _fragments(timing: Timing, rung: VideoRung) -> list[str]:
    return [
        *("-fflags", "+bitexact", "-video_track_timescale", str(timing.timescale)),
        *("-f", "mp4", "-movflags", "+cmaf+frag_keyframe+default_base_moof+skip_trailer", "-use_editlist", "0"),
        *("-y", f"{rung.name}/{FRAGMENTS}"),
    ]


def filter_graph(
    ffmpeg: Ffmpeg, report: ProbeReport, timing: Timing, rungs: Sequence[VideoRung], start: Fraction, skipped: int
) -> str:
    """The picture of each moment of the constant grid, in each rung's size. `skipped` frames after `start` are left out."""
    rate = f"{timing.frame_rate.numerator}/{timing.frame_rate.denominator}"
    steps = [
        DEINTERLACE,
        f"setpts=PTS-({seconds_text(start)})/TB",
        f"fps=fps={rate}:start_time=0",
        "tpad=stop=-1:stop_mode=clone",
    ]
    if skipped:
        steps += [f"trim=start_frame={skipped}", "setpts=PTS-STARTPTS"]
    shared = f"[0:{report.video_index}]{','.join(steps)}"
    sized = {rung.name: _sized(ffmpeg, report, rung) for rung in rungs}
    if len(rungs) == 1:
        return f"{shared},{sized[rungs[0].name]}[{rungs[0].name}]"
    names = [rung.name for rung in sorted(rungs, key=lambda rung: rung.short_side, reverse=True)]
    # The two largest are scaled from the source, each other from the one above it, which costs a third. Not so what is
    # mapped to another brightness after its scaling: that must happen once only.
    direct = len(names) if report.transfer and ffmpeg.tone_maps else 2
    graph = [f"{shared},split={min(direct, len(names))}{''.join(f'[to{name}]' for name in names[:direct])}"]
    for place, name in enumerate(names):
        below = names[place + 1] if direct <= place + 1 < len(names) else None
        graph.append(f"[to{name}]{sized[name]}" + (f",split=2[{name}][to{below}]" if below else f"[{name}]"))
    return ";".join(graph)


def _sized(ffmpeg: Ffmpeg, report: ProbeReport, rung: VideoRung) -> str:
    steps = [f"scale={rung.width}:{rung.height}:flags=bicubic:out_range=tv"]
    if report.transfer and ffmpeg.tone_maps:
        steps.append(TONE_MAP)  # in floats, so after the picture is small
    return ",".join([*steps, "setsar=1", "format=yuv420p"])


def seconds_text(moment: Fraction) -> str:
    """As ffmpeg's options take it."""
    return f"{float(moment):.6f}"


def check_ending(result: ChildResult, at_s: float) -> None:
    """Maps how ffmpeg ended; `at_s` is where in the video it began."""
    minutes, seconds = divmod(int(at_s), 60)
    near = f"from {minutes}:{seconds:02d} on"
    match result.ending:
        case Ending.DONE:
            return
        case Ending.STALLED:
            raise TaskFailed(FailureKind.STALLED, f"Encoding {near} made no progress and was stopped.", result.errors)
        case Ending.KILLED | Ending.FILE_LIMIT:
            raise TaskFailed(
                FailureKind.TOO_COSTLY, f"Encoding {near} used more time, memory or room than allowed.", result.errors
            )
        case Ending.ABANDONED:
            raise TaskFailed(FailureKind.OUTPUT_LOST, f"Encoding {near} ended: its folder was taken away.", result.errors)
    if says_disk_is_full(result.errors):
        raise no_room(result.errors)
    if says_input_is_damaged(result.errors):
        raise TaskFailed(FailureKind.DAMAGED, f"The file's data is damaged {near}.", result.errors)
    raise TaskFailed(FailureKind.TOOL_FAILED, f"Encoding {near} failed.", result.errors)


def says_disk_is_full(errors: str) -> bool:
    """ENOSPC and EDQUOT as the C library words them (children run with LC_ALL=C)."""
    return "No space left on device" in errors or "Disk quota exceeded" in errors


def says_input_is_damaged(errors: str) -> bool:
    marks = (
        "Invalid data found",
        "Error submitting packet to decoder",
        "error while decoding",
        "corrupt",
        "partial file",
        "Decode error",
    )
    return any(mark in errors for mark in marks)


def cut_video(fragments: Path, timing: Timing, part: FrameRange, folder: Path, *, delay: int) -> None:
    """Checks every sample against the plan and writes the segments. Raises NotIsoBmff or TaskFailed.

    `delay` (ticks) is by how much samples are presented late; AV1 samples are in the order in which they are shown.
    """
    with fragments.open("rb") as file:
        moov = read_moov(file)
        if timescale(moov) != timing.timescale:
            raise NotIsoBmff(f"its clock runs at {timescale(moov)} Hz instead of {timing.timescale}")
        samples = _checked(read_samples(file), timing, delay)
        for place, frames in enumerate(timing.segment_sizes(part.first, part.frames)):
            number = part.first_segment + place
            segment = list(islice(samples, frames))
            if len(segment) < frames:
                made = place * timing.segment_frames + len(segment)
                raise TaskFailed(
                    FailureKind.DAMAGED, f"Only {made} of {part.frames} pictures could be made of a part of the file."
                )
            if not segment[0].sync or segment[0].offset != delay:
                raise NotIsoBmff(f"segment {number} does not begin with a keyframe in its place")
            if place == 0 and codecs(moov).startswith("av01"):
                moov = with_stream_header(moov, segment[0].data)
            first_tick = number * timing.segment_frames * timing.frame_ticks
            (folder / segment_name(number)).write_bytes(encode_segment(number, first_tick, segment))
        if next(samples, None) is not None:
            raise NotIsoBmff("there are more pictures than planned")
    (folder / INIT).write_bytes(canonical_init(moov, delay))


def _checked(samples: Iterator[Sample], timing: Timing, delay: int) -> Iterator[Sample]:
    """Samples of one duration, with flags of our own, all presented `delay` ticks late, which the edit list takes back.

    Encoders and muxers differ in whether offsets are late or negative; a range that happens to need no reordering would differ
    from its neighbours too. ffmpeg states 0 for the last duration when it cannot know.
    """
    shift: int | None = None
    for index, sample in enumerate(samples):
        if sample.duration not in (timing.frame_ticks, 0):
            raise NotIsoBmff(f"picture {index} lasts {sample.duration} ticks instead of {timing.frame_ticks}")
        shift = delay - sample.offset if shift is None else shift
        if sample.offset + shift < 0:
            raise NotIsoBmff(f"picture {index} is reordered further than {REORDERED_FRAMES} frames")
        flags = SYNC_FLAGS if sample.sync else DEPENDENT_FLAGS
        yield Sample(timing.frame_ticks, flags, sample.offset + shift, sample.data)
