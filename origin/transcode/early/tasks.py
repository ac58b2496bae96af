"""The tasks that workers run before an upload is complete. `source.work` is the folder of what is made of these parts."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from origin.transcode.early.openings import picture_key, sound_key
from origin.transcode.encoding.audio import SoundSettings, encode_audio
from origin.transcode.encoding.encode import EncodeSettings, encode_range
from origin.transcode.encoding.plan import Plan, SoundWindow
from origin.transcode.encoding.work import made
from origin.transcode.graph.tasks import Source
from origin.transcode.media.probe import child_answer
from origin.transcode.media.source import Bounds, ProbeReport, facts_from_json, judge
from origin.transcode.programs.tools import find_ffmpeg


@dataclass(frozen=True, slots=True)
class EarlyLook:
    """What the index says. The first pictures and the first sound, `seconds` long, lie before byte `reach`."""

    report: ProbeReport
    reach: int


def run_look(source: Source, bounds: Bounds, seconds: float) -> EarlyLook:
    """Raises TaskFailed, also for files that are good once they are whole."""
    folder = source.work / f".look.{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        answer = child_answer(source.master, folder, str(seconds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return EarlyLook(judge(facts_from_json(answer["facts"]), bounds), int(answer["reach"]))


def run_window(source: Source, report: ProbeReport, plan: Plan, settings: EncodeSettings) -> None:
    """The first window of the rung that is published first."""
    ffmpeg, rungs, part = find_ffmpeg(source.ffmpeg), plan.rungs[:1], plan.ranges[0]

    def make(folder: Path) -> None:
        encode_range(ffmpeg, source.master, report, plan.timing, rungs, part, settings, folder)

    made(source.work, picture_key(ffmpeg, report, plan.timing, rungs, part, settings), make)


def run_sound(source: Source, report: ProbeReport, plan: Plan, sound: SoundSettings, window: SoundWindow) -> None:
    ffmpeg = find_ffmpeg(source.ffmpeg)

    def make(folder: Path) -> None:
        encode_audio(ffmpeg, source.master, report, plan.timing, sound, window, folder)

    made(source.work, sound_key(ffmpeg, report, plan.timing, sound.kbps, window), make)
