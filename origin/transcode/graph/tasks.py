"""The tasks that workers run: plain functions from values to files named by their inputs. Blocking; one thread each.

Everything a task needs is in its arguments, everything it makes in its result and its output folder; a task may run twice or
on another machine that sees the same folders.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from headwater.rules.mediapath import IFRAME_PLAYLIST, INIT, MEDIA_PLAYLIST, POSTER, STORYBOARD_INDEX
from origin.transcode.early.openings import picture_key, sound_key, taken
from origin.transcode.encoding.audio import SoundSettings, encode_audio
from origin.transcode.encoding.encode import EncodeSettings, encode_range
from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import FrameRange, SoundWindow, Timing
from origin.transcode.encoding.quality import Quality, measure_quality
from origin.transcode.encoding.stills import make_poster, make_storyboard
from origin.transcode.encoding.work import digest_of, made
from origin.transcode.failure import FailureKind, TaskFailed
from origin.transcode.media.probe import probe
from origin.transcode.media.source import Bounds, ProbeReport
from origin.transcode.programs.tools import Ffmpeg, NoFfmpeg, find_ffmpeg
from origin.transcode.publishing.hls import iframe_playlist, media_playlist
from origin.transcode.publishing.rendition import (
    DESCRIPTION,
    MeasuredRung,
    Rendition,
    collect_segments,
    measure,
    rendition_from_json,
)
from origin.transcode.publishing.verify import CHANNELS, check_sound, check_video

VIDEO_CODEC, AUDIO_CODEC = "h264", "aac"


@dataclass(frozen=True, slots=True)
class Source:
    """One uploaded file, and where its tasks work. `sha256` stands for its bytes in every output's name.

    In `openings` is what was made of it before its upload was complete, of parts that it has.
    """

    master: Path
    sha256: str
    work: Path
    ffmpeg: str
    openings: Path | None = None


@dataclass(frozen=True, slots=True)
class PackagedRung:
    """A rendition and its files by published name; playlists are the last, so that they never name what is not there."""

    rendition: Rendition
    files: tuple[tuple[str, Path], ...]


def run_probe(source: Source, bounds: Bounds) -> ProbeReport:
    folder = source.work / f".probe.{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        return probe(source.master, folder, bounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_encode(
    source: Source,
    report: ProbeReport,
    timing: Timing,
    rungs: Sequence[VideoRung],
    part: FrameRange,
    settings: EncodeSettings,
) -> tuple[Path, ...]:
    """The folders with the range's segments and header, one a rung."""
    ffmpeg = _ffmpeg(source)

    def make(folder: Path) -> None:
        if part.first or not taken(source.openings, picture_key(ffmpeg, report, timing, rungs, part, settings), folder):
            encode_range(ffmpeg, source.master, report, timing, rungs, part, settings, folder)

    # Threads and patience change no promise about the bytes that are joined.
    digest = digest_of(
        "encode", source.sha256, ffmpeg.build, report, timing, [asdict(rung) for rung in rungs], part, settings.preset
    )
    folder = made(source.work, digest, make)
    return tuple(folder / rung.name for rung in rungs)


def run_audio(source: Source, report: ProbeReport, timing: Timing, sound: SoundSettings, window: SoundWindow) -> Path:
    """The folder with the window's segments and header."""
    ffmpeg = _ffmpeg(source)

    def make(folder: Path) -> None:
        if window.first or not taken(source.openings, sound_key(ffmpeg, report, timing, sound.kbps, window), folder):
            encode_audio(ffmpeg, source.master, report, timing, sound, window, folder)

    return made(source.work, digest_of("audio", source.sha256, ffmpeg.build, report, timing, sound.kbps, window), make)


def run_package(
    source: Source,
    kind: Literal["video", "audio"],
    name: str,
    folders: Sequence[Path],
    rung: VideoRung | None,
    timing: Timing,
    language: str,
) -> PackagedRung:
    """Reads every segment back, checks them, and writes the playlists."""
    lost = [folder for folder in folders if not (folder / INIT).is_file()]
    if lost:
        detail = f"{len(lost)} of the {len(folders)} parts that were made are not there any more."
        raise TaskFailed(FailureKind.OUTPUT_LOST, detail, ", ".join(map(str, lost)))
    files, init = collect_segments(folders)

    def make(folder: Path) -> None:
        measured = measure(files, init)
        rendition = described(kind, name, measured, rung, timing, language)
        (folder / MEDIA_PLAYLIST).write_text(media_playlist(rendition), encoding="utf-8")
        if kind == "video":
            (folder / IFRAME_PLAYLIST).write_text(iframe_playlist(rendition), encoding="utf-8")
        (folder / DESCRIPTION).write_text(rendition.to_json(), encoding="utf-8")

    made_of = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    digest = digest_of("package", kind, name, made_of, rung, language)
    output = made(source.work, digest, make)
    rendition = rendition_from_json((output / DESCRIPTION).read_text(encoding="utf-8"))
    segments = tuple((file.name, file) for file in files)
    playlists = tuple((name, output / name) for name in (IFRAME_PLAYLIST, MEDIA_PLAYLIST) if (output / name).is_file())
    return PackagedRung(rendition, ((INIT, init), *segments, *playlists))


def described(
    kind: Literal["video", "audio"], name: str, measured: MeasuredRung, rung: VideoRung | None, timing: Timing, language: str
) -> Rendition:
    """What was measured, checked against what was planned of it. Raises TaskFailed."""
    if rung is not None:
        check_video(measured.header, measured.facts, rung, timing)
    else:
        check_sound(measured.header, measured.facts, timing)
    rendition = Rendition(
        codec=rung.codec if rung is not None else AUDIO_CODEC,
        rung=name,
        kind=kind,
        codecs=measured.header.codecs,
        timescale=measured.header.timescale,
        segments=measured.segments,
        init_bytes=measured.init_bytes,
    )
    if rung is not None:
        return replace(rendition, width=rung.width, height=rung.height, frame_rate=timing.frame_rate)
    return replace(rendition, channels=CHANNELS, language=language)


def run_poster(source: Source, report: ProbeReport, stall_s: float) -> Path:
    """The poster's file."""
    ffmpeg = _ffmpeg(source)

    def make(folder: Path) -> None:
        make_poster(ffmpeg, source.master, report, stall_s, folder)

    return made(source.work, digest_of("poster", source.sha256, ffmpeg.build, report), make) / POSTER


def run_storyboard(
    source: Source, packaged: PackagedRung, rung: VideoRung, timing: Timing, stall_s: float
) -> tuple[tuple[str, Path], ...]:
    """(published name, file) of the sheets, then of their index."""
    ffmpeg = _ffmpeg(source)
    files = dict(packaged.files)
    segments = [file for name, file in packaged.files if name.endswith(".m4s")]

    def make(folder: Path) -> None:
        make_storyboard(ffmpeg, files[INIT], segments, rung, timing, stall_s, folder)

    folder = made(source.work, digest_of("storyboard", [str(file.parent.parent.name) for file in segments], ffmpeg.build), make)
    sheets = sorted(folder.glob("storyboard_*.jpg"))
    return (*((sheet.name, sheet) for sheet in sheets), (STORYBOARD_INDEX, folder / STORYBOARD_INDEX))


def run_quality(
    source: Source, report: ProbeReport, timing: Timing, largest: VideoRung, packaged: PackagedRung, samples: int, stall_s: float
) -> Quality:
    """VMAF of one rung. A few numbers: nothing of it is kept in files."""
    ffmpeg, files = _ffmpeg(source), dict(packaged.files)
    segments = [file for name, file in packaged.files if name.endswith(".m4s")]
    folder = source.work / f".quality.{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        return measure_quality(ffmpeg, source.master, report, timing, largest, files[INIT], segments, samples, stall_s, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ffmpeg(source: Source) -> Ffmpeg:
    try:
        return find_ffmpeg(source.ffmpeg)
    except NoFfmpeg as error:
        raise TaskFailed(FailureKind.TOOL_FAILED, "The worker has no usable ffmpeg.", str(error)) from error
