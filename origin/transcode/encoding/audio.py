"""The sound, encoded once over the whole file: one range's AAC would leave a gap where the next begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from headwater.rules.mediapath import INIT, segment_name
from origin.transcode.encoding.encode import FRAGMENTS, check_ending
from origin.transcode.encoding.plan import AAC_FRAME, AUDIO_RATE_HZ, SoundWindow, Timing, audio_cuts
from origin.transcode.failure import FailureKind, TaskFailed
from origin.transcode.media.initsegment import canonical_init, timescale
from origin.transcode.media.isobmff import SYNC_FLAGS, NotIsoBmff, Sample, encode_segment, read_moov, read_samples
from origin.transcode.media.source import ProbeReport
from origin.transcode.programs.child import Limits, run_child
from origin.transcode.programs.tools import Ffmpeg, common_arguments, hostile_input

# ffmpeg's AAC encoder begins with one frame (1024 samples) of what was before the sound. It is left out: an edit list that hides
# it is applied anew to each segment by readers that open segments singly (ffmpeg's DASH one), which then lose a frame each time.
PRIMING_FRAMES = 1
SURPLUS_FRAMES = 8  # thrown away: the encoder looks ahead, and codes the last frames of an interrupted sound in another way
CPU_PER_AUDIO_SECOND = 2


@dataclass(frozen=True, slots=True)
class SoundSettings:
    """What the encoder is told; patience and priority change nothing in its output."""

    kbps: int
    stall_s: float
    nice: int


def encode_audio(
    ffmpeg: Ffmpeg,
    master: Path,
    report: ProbeReport,
    timing: Timing,
    sound: SoundSettings,
    window: SoundWindow,
    folder: Path,
) -> None:
    """Writes the window's segments and `init.mp4` into `folder`. Raises TaskFailed."""
    kbps = sound.kbps
    seconds = math.ceil(timing.duration) + 60
    room = 64 * 2**20 + kbps * 1000 * seconds
    limits = Limits(cpu_s=CPU_PER_AUDIO_SECOND * seconds, file_bytes=room, stall_s=sound.stall_s, nice=sound.nice)
    cuts = audio_cuts(timing, round(timing.duration * AUDIO_RATE_HZ))
    check_ending(run_child(audio_command(ffmpeg, master, report, timing, kbps, frames_until(cuts, window)), folder, limits), 0.0)
    fragments = folder / FRAGMENTS
    try:
        cut_audio(fragments, cuts, window, folder)
    except NotIsoBmff as error:
        raise TaskFailed(FailureKind.INCONSISTENT, f"What ffmpeg wrote cannot be cut: {error}.") from error
    fragments.unlink()


def frames_until(cuts: Sequence[int], window: SoundWindow) -> int | None:
    """How many frames the encoder is asked for; None for all."""
    return None if window.until >= len(cuts) else cuts[window.until - 1] + PRIMING_FRAMES + SURPLUS_FRAMES


def audio_command(
    ffmpeg: Ffmpeg, master: Path, report: ProbeReport, timing: Timing, kbps: int, frames: int | None = None
) -> list[str]:
    """Stereo at 48 kHz from time 0 to the picture's end, or its first `frames`; gaps in the source become silence."""
    assert report.audio is not None
    zero = f"{float(report.zero):.6f}"
    samples = round(timing.duration * AUDIO_RATE_HZ)
    filters = [
        f"asetpts=PTS-({zero})/TB",
        f"aresample={AUDIO_RATE_HZ}:async=1:min_hard_comp=0.1:first_pts=0",
        "aformat=sample_fmts=fltp:channel_layouts=stereo",
        f"apad=whole_len={samples}",
        f"atrim=end_sample={samples}",
    ]
    return [
        *common_arguments(ffmpeg),
        *("-copyts", *hostile_input(master)),
        *("-map", f"0:{report.audio.index}", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"),
        *(("-frames:a", str(frames)) if frames is not None else ()),
        *("-af", ",".join(filters), "-c:a", "aac", "-b:a", f"{kbps}k", "-flags:a", "+bitexact", "-fflags", "+bitexact"),
        *("-f", "mp4", "-movflags", "+cmaf+default_base_moof+skip_trailer", "-frag_duration", "4000000", "-use_editlist", "0"),
        *("-y", FRAGMENTS),
    ]


def cut_audio(fragments: Path, cuts: Sequence[int], window: SoundWindow, folder: Path) -> None:
    """Cuts at the AAC frames nearest to the video's segment ends; `cuts` are those of the whole. Raises NotIsoBmff."""
    with fragments.open("rb") as file:
        moov = read_moov(file)
        if timescale(moov) != AUDIO_RATE_HZ:
            raise NotIsoBmff(f"its clock runs at {timescale(moov)} Hz instead of {AUDIO_RATE_HZ}")
        samples = islice(read_samples(file), PRIMING_FRAMES, None)
        done = 0
        for number, cut in enumerate(cuts[: window.until]):
            segment = [Sample(AAC_FRAME, SYNC_FLAGS, 0, sample.data) for sample in islice(samples, cut - done)]
            # The encoder's count of frames may be one off at the very end.
            if len(segment) < cut - done - 1 or not segment:
                raise NotIsoBmff(f"audio segment {number} has {len(segment)} of {cut - done} frames")
            if number >= window.first:
                (folder / segment_name(number)).write_bytes(encode_segment(number, done * AAC_FRAME, segment))
            done += len(segment)
    (folder / INIT).write_bytes(canonical_init(moov, 0))
