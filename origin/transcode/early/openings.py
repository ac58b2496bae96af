"""What was made before its upload was complete, under a name that says what it is made by: the very command, and how it is cut.

A look at half a file may find another length, or another last picture, than the probe of the whole; whatever of that matters to
the first window stands in the command, and then the name differs and nothing is taken.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from origin.transcode.encoding.audio import audio_command, frames_until
from origin.transcode.encoding.encode import EncodeSettings, encode_command
from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import AUDIO_RATE_HZ, FrameRange, SoundWindow, Timing, audio_cuts
from origin.transcode.encoding.work import digest_of
from origin.transcode.media.source import ProbeReport
from origin.transcode.programs.tools import Ffmpeg

ANYWHERE = Path("/")
READS = "reads.json"


def picture_key(
    ffmpeg: Ffmpeg, report: ProbeReport, timing: Timing, rungs: Sequence[VideoRung], part: FrameRange, settings: EncodeSettings
) -> str:
    """Threads and patience change no promise about the bytes that are joined."""
    command = encode_command(ffmpeg, ANYWHERE, report, timing, rungs, part, replace(settings, threads=1))
    return digest_of("opening", ffmpeg.build, command[1:], replace(timing, frames=0), part)


def sound_key(ffmpeg: Ffmpeg, report: ProbeReport, timing: Timing, kbps: int, window: SoundWindow) -> str:
    cuts = audio_cuts(timing, round(timing.duration * AUDIO_RATE_HZ))
    command = audio_command(ffmpeg, ANYWHERE, report, timing, kbps, frames_until(cuts, window))
    return digest_of("opening-sound", ffmpeg.build, command[1:], cuts[: window.until], window)


def taken(openings: Path | None, key: str, folder: Path) -> bool:
    """Puts what was made early into `folder`, if there is something of that name."""
    if openings is None or not (made := openings / key).is_dir():
        return False
    try:
        shutil.copytree(made, folder, copy_function=os.link, dirs_exist_ok=True)
    except OSError:  # removed meanwhile
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return False
    return True


def note_reads(openings: Path, digests: Mapping[int, str]) -> None:
    """Which parts everything in this folder is made of, by number; written whole, before anything is made."""
    draft = openings / f".{READS}"
    draft.write_text(json.dumps({str(number): sha256 for number, sha256 in digests.items()}), encoding="utf-8")
    draft.replace(openings / READS)


def reads_of(openings: Path) -> dict[int, str]:
    """Empty when nothing was begun there."""
    try:
        found = json.loads((openings / READS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {int(number): str(sha256) for number, sha256 in found.items()}
