"""Clips for tests: made with ffmpeg, or taken from ../shared/media where that folder stands beside the clone."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from origin.transcode.media.testclip import make_demo_clip
from origin.transcode.programs.tools import find_ffmpeg
from tests.support.deployments import ROOT

SHARED_MEDIA = ROOT.parent / "shared" / "media"


def ffmpeg_path() -> str:
    return find_ffmpeg("auto").path


def shared_media(pattern: str = "*") -> list[Path]:
    """Real files by name pattern; none where the folder is not there."""
    return sorted(SHARED_MEDIA.glob(pattern))


def make_clip(path: Path, *, seconds: float = 4.0, width: int = 640, height: int = 360, rate: str = "25") -> Path:
    """Moving picture, burnt-in time and tone, H.264 and AAC in MP4."""
    return make_demo_clip(path, seconds=seconds, width=width, height=height, rate=rate)


def make_with(path: Path, *arguments: str) -> Path:
    """Whatever ffmpeg makes of `arguments`, written to `path`."""
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "error", *arguments, "-y", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return path


@dataclass(frozen=True, slots=True)
class Decoded:
    """What ffmpeg decodes of a file or of every rendition of a manifest. Times in seconds, one list a video stream."""

    status: int
    complaints: str
    video: tuple[tuple[float, ...], ...]
    audio_start: float | None
    audio_samples: int

    @property
    def clean(self) -> bool:
        return self.status == 0 and not self.complaints


def decode(source: str | Path) -> Decoded:
    """Decodes all streams to their end, and stops at the first error. (Streams left out would be cut off with complaints.)"""
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "warning", "-xerror", "-copyts", "-i", str(source)]
    # framecrc prints one line a frame: stream, dts, pts, duration, size, checksum; time bases and types stand in comments.
    output = ["-map", "0:v?", "-map", "0:a?", "-ac", "1", "-c:a", "pcm_s16le", "-fps_mode", "passthrough", "-f", "framecrc", "-"]
    done = subprocess.run([*command, *output], capture_output=True, timeout=120, check=False, text=True, errors="replace")
    bases: dict[str, float] = {}
    types: dict[str, str] = {}
    video: dict[str, list[float]] = {}
    audio: dict[str, tuple[float, int]] = {}
    for line in done.stdout.splitlines():
        if line.startswith(("#tb", "#media_type")):
            name, _, value = line.partition(": ")
            kind, _, stream = name.partition(" ")
            if kind == "#tb":
                over, _, under = value.partition("/")
                bases[stream] = int(over) / int(under)
            else:
                types[stream] = value
        elif not line.startswith("#"):
            stream, _, pts, _, size, *_ = (field.strip() for field in line.split(","))
            at = int(pts) * bases[stream]
            if types[stream] == "video":
                video.setdefault(stream, []).append(at)
            else:
                first, samples = audio.get(stream, (at, 0))
                audio[stream] = (first, samples + int(size) // 2)
    start, samples = next(iter(audio.values()), (None, 0))
    return Decoded(done.returncode, done.stderr, tuple(map(tuple, video.values())), start, samples)
