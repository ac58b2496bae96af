"""The ffmpeg that is used: where it is, what it can do. Features are asked for, never versions."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from origin.transcode.media.source import DEMUXERS

NEEDED_ENCODERS = ("libx264", "aac", "mjpeg")
NEEDED_FILTERS = ("scale", "fps", "tpad", "setpts", "aresample", "tile", "select", "bwdif")
ASK_S = 20


class NoFfmpeg(Exception):
    """There is no usable ffmpeg; the message names the cure."""


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """`build` names the binary's version and configuration: outputs of two builds are never stitched."""

    path: str
    build: str
    tone_maps: bool
    makes_av1: bool = False
    measures_vmaf: bool = False


@lru_cache(maxsize=8)
def find_ffmpeg(setting: str) -> Ffmpeg:
    """The ffmpeg of the setting `transcode.ffmpeg`: a path, or `auto` for the packaged one, else the system's."""
    path = setting if setting != "auto" else _packaged() or shutil.which("ffmpeg")
    if not path or not os.access(path, os.X_OK):
        raise NoFfmpeg(f"transcode.ffmpeg: there is no program at {path or 'any usual place'}; install ffmpeg, or name its path.")
    filters, encoders = _ask(path, "-filters"), _ask(path, "-encoders")
    missing = [name for name in NEEDED_FILTERS if name not in filters] + [
        name for name in NEEDED_ENCODERS if name not in encoders
    ]
    if missing:
        raise NoFfmpeg(f"transcode.ffmpeg: {path} lacks {', '.join(missing)}; set `auto` to use the packaged ffmpeg.")
    version = subprocess.run([path, "-version"], capture_output=True, timeout=ASK_S, check=True).stdout
    build = hashlib.sha256(version).hexdigest()[:16]
    return Ffmpeg(
        str(Path(path).resolve()),
        build,
        tone_maps={"zscale", "tonemap"} <= filters,
        makes_av1="libsvtav1" in encoders,
        measures_vmaf="libvmaf" in filters,
    )


def _packaged() -> str | None:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def _ask(path: str, what: str) -> set[str]:
    """The second word of each line is a name."""
    try:
        answer = subprocess.run([path, "-hide_banner", what], capture_output=True, timeout=ASK_S, check=True, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoFfmpeg(f"transcode.ffmpeg: {path} does not run ({error}); set `auto` to use the packaged ffmpeg.") from error
    return {words[1] for words in map(str.split, answer.stdout.splitlines()) if len(words) > 1}


def common_arguments(ffmpeg: Ffmpeg) -> list[str]:
    """Quiet, never asking, and stopping at the first error: ffmpeg exits 0 on damaged input otherwise."""
    return [
        ffmpeg.path,
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "warning",
        "-xerror",
        "-progress",
        "pipe:1",
        "-stats_period",
        "0.5",
    ]


def hostile_input(path: Path, demuxer: str | None = None) -> list[str]:
    """The input arguments that keep ffmpeg from following references: only files, only demuxers that hold their own media."""
    whitelist = ["-protocol_whitelist", "file", "-format_whitelist", ",".join(DEMUXERS)]
    return [*whitelist, *(["-f", demuxer] if demuxer else []), "-i", f"file:{path}"]
