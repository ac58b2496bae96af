"""Clips that tests make for themselves with the packaged ffmpeg, and the real ones beside the clone where they are."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from tests.support.deployments import ROOT

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
REAL_MEDIA = ROOT.parent / "shared" / "media"
FRAME_RATE = 24
FLASH_AT_S = 5.0
FLASH_S = 0.5


def flash_clip(file: Path, *, seconds: float, size: str = "640x360") -> Path:
    """Dim noise; at FLASH_AT_S the picture is white and a tone sounds, for FLASH_S: what was in sync can be found again."""
    when = f"between(t,{FLASH_AT_S},{FLASH_AT_S + FLASH_S - 0.001})"
    picture = f"testsrc2=size={size}:rate={FRAME_RATE}:duration={seconds},eq=brightness=-0.4:contrast=0.2"
    flash = f"drawbox=color=white:t=fill:enable='{when}'"
    tone = f"aevalsrc='0.5*sin(2*PI*1000*t)*{when}':s=48000:d={seconds}"
    command = [
        *(
            FFMPEG,
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            picture,
            "-f",
            "lavfi",
            "-i",
            tone,
        ),
        *("-vf", flash, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "30", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-ac", "2", "-movflags", "+faststart", str(file)),
    ]
    subprocess.run(command, check=True, timeout=120)
    return file


@dataclass(frozen=True)
class Decoded:
    """What came out of a player: seconds. `flash_at_s` and `tone_at_s` are None when there is no flash or tone."""

    video_frames: int
    video_start_s: float
    video_end_s: float
    audio_start_s: float | None
    audio_end_s: float | None
    frame_s: float

    @property
    def video_s(self) -> float:
        return self.video_end_s - self.video_start_s


def decode(source: str) -> list[Decoded]:
    """Decodes all of `source` (a file or URL): every video rendition with the first audio; any error of ffmpeg fails the test.

    All renditions at once: ffmpeg cuts off the ones that it does not take, and then complains of what it cut.
    """
    command = [FFMPEG, "-hide_banner", "-nostdin", "-loglevel", "error", "-xerror", "-copyts", "-i", source]
    command += ["-map", "0:a:0?", "-map", "0:v", "-f", "framecrc", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    bases: dict[int, float] = {}
    media: dict[int, str] = {}
    spans: dict[int, list[tuple[float, float]]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(":")
        if name.startswith("#tb"):
            numerator, denominator = value.split("/")
            bases[int(name.split()[1])] = int(numerator) / int(denominator)
        elif name.startswith("#media_type"):
            media[int(name.split()[1])] = value.strip()
        elif not line.startswith("#"):
            stream, _, pts, duration = (int(field) for field in line.split(",")[:4])
            spans.setdefault(stream, []).append((pts * bases[stream], (pts + duration) * bases[stream]))
    audio = next((spans[stream] for stream, kind in media.items() if kind == "audio"), None)
    return [_decoded(spans[stream], audio) for stream, kind in media.items() if kind == "video"]


def _decoded(video: list[tuple[float, float]], audio: list[tuple[float, float]] | None) -> Decoded:
    return Decoded(
        video_frames=len(video),
        video_start_s=min(start for start, _ in video),
        video_end_s=max(end for _, end in video),
        audio_start_s=min(start for start, _ in audio) if audio else None,
        audio_end_s=max(end for _, end in audio) if audio else None,
        frame_s=video[0][1] - video[0][0],
    )


def best_video(source: str) -> int:
    """Which of a stream's video renditions is the largest, counted among its video streams."""
    done = subprocess.run(
        [FFMPEG, "-hide_banner", "-nostdin", "-i", source], capture_output=True, text=True, timeout=60, check=False
    )
    sizes = [_pixels(line) for line in done.stderr.splitlines() if "Stream #0" in line and "Video:" in line]
    assert sizes, done.stderr
    return sizes.index(max(sizes))


def _pixels(line: str) -> int:
    for word in line.replace(",", " ").split():
        width, _, height = word.partition("x")
        if width.isdigit() and height.isdigit() and int(width) > 0:
            return int(width) * int(height)
    return 0


def flash_and_tone(source: str) -> tuple[float, float]:
    """(when the flash comes, when the tone comes) in seconds of the decoded stream."""
    command = [FFMPEG, "-hide_banner", "-nostdin", "-copyts", "-i", source, "-map", f"0:v:{best_video(source)}", "-map", "0:a:0"]
    command += ["-vf", "blackdetect=d=0.5:pix_th=0.6:pic_th=0.98", "-af", "silencedetect=n=-30dB:d=0.5", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr
    black_ends = [word.removeprefix("black_end:") for word in told.split() if word.startswith("black_end:")]
    words = told.split()
    silence_ends = [words[place + 1] for place, word in enumerate(words) if word == "silence_end:"]
    return float(black_ends[0]), float(silence_ends[0])
