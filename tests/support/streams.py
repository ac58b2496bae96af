"""The tasks of a transcode, one after another in this process; their files are laid out as they are published."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from headwater.settings.origin import Transcode
from origin.transcode.encoding.audio import SoundSettings
from origin.transcode.encoding.encode import EncodeSettings
from origin.transcode.encoding.plan import Plan, make_plan, sound_segments, sound_windows
from origin.transcode.graph.tasks import (
    PackagedRung,
    Source,
    run_audio,
    run_encode,
    run_package,
    run_poster,
    run_probe,
    run_storyboard,
)
from origin.transcode.media.source import Bounds, ProbeReport
from origin.transcode.publishing.dash import dash_manifest
from origin.transcode.publishing.hls import master_playlist
from origin.transcode.publishing.rendition import Rendition, check_renditions

STALL_S = 60.0


@dataclass(frozen=True, slots=True)
class Stream:
    """`folder` has the manifests; `renditions` are those in them."""

    report: ProbeReport
    plan: Plan
    folder: Path
    renditions: tuple[Rendition, ...]

    @property
    def master(self) -> Path:
        return self.folder / "master.m3u8"

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.mpd"


def transcode(master: Path, folder: Path, settings: Transcode) -> Stream:
    """Raises TaskFailed as the tasks do."""
    source = Source(master, "0" * 64, folder / "work", settings.ffmpeg)
    report = run_probe(source, Bounds(settings.max_pixels, settings.max_duration))
    plan = make_plan(report, settings)
    out = folder / "out"
    packaged = [_rung(source, report, plan, place, settings.preset) for place in range(len(plan.rungs))]
    stills = run_storyboard(source, packaged[0], plan.rungs[0], plan.timing, STALL_S)
    if plan.audio_kbps is not None:
        sound = SoundSettings(plan.audio_kbps, STALL_S, 0)
        windows = sound_windows(sound_segments(plan.timing))
        folders = [run_audio(source, report, plan.timing, sound, window) for window in windows]
        packaged.append(run_package(source, "audio", plan.audio_name, folders, None, plan.timing, ""))
    renditions = [rung.rendition for rung in packaged]
    check_renditions(renditions, plan.timing.duration, 1 / plan.timing.frame_rate)
    for rung in packaged:
        _copy(rung.files, out / rung.rendition.path)
    _copy([*stills, ("poster.jpg", run_poster(source, report, STALL_S))], out)
    video = [rendition for rendition in renditions if rendition.kind == "video"]
    audio = next((rendition for rendition in renditions if rendition.kind == "audio"), None)
    (out / "master.m3u8").write_text(master_playlist(video, audio))
    (out / "manifest.mpd").write_text(dash_manifest(video, audio))
    return Stream(report, plan, out, tuple(renditions))


def _rung(source: Source, report: ProbeReport, plan: Plan, place: int, preset: str) -> PackagedRung:
    rung, encoding = plan.rungs[place], EncodeSettings(preset, 1, STALL_S)
    folders = [run_encode(source, report, plan.timing, [rung], part, encoding)[0] for part in plan.ranges]
    return run_package(source, "video", rung.name, folders, rung, plan.timing, "")


def _copy(files: list[tuple[str, Path]] | tuple[tuple[str, Path], ...], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files:
        shutil.copy(file, folder / name)
