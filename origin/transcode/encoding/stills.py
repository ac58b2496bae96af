"""Still pictures: the poster from the source, and storyboard sheets from the keyframes of a rung that is made already."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from headwater.rules.mediapath import POSTER, STORYBOARD_INDEX
from origin.transcode.encoding.encode import DEINTERLACE, TONE_MAP, check_ending
from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import Timing
from origin.transcode.media.source import ProbeReport
from origin.transcode.programs.child import BACKGROUND, Limits, run_child
from origin.transcode.programs.tools import Ffmpeg, common_arguments, hostile_input

COLUMNS, ROWS = 5, 5
TILE_LONG_SIDE = 160
MOST_TILES = 200
POSTER_SHORT_SIDE = 720
LATEST_POSTER_S = 30
ROOM_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Storyboard:
    """`tiles` pictures, one every `step_gops` GOPs, in sheets of 5 x 5 tiles of `width` x `height` pixels."""

    tiles: int
    step_gops: int
    width: int
    height: int

    @property
    def sheets(self) -> int:
        return -(-self.tiles // (COLUMNS * ROWS))


def storyboard_for(timing: Timing, rung: VideoRung) -> Storyboard:
    gops = -(-timing.frames // timing.gop_frames)
    step = -(-gops // MOST_TILES)
    scale = Fraction(TILE_LONG_SIDE, max(rung.width, rung.height))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (rung.width, rung.height))
    return Storyboard(-(-gops // step), step, width, height)


def sheet_name(number: int) -> str:
    return f"storyboard_{number:03d}.jpg"


def storyboard_vtt(board: Storyboard, timing: Timing) -> str:
    """WebVTT whose cues name a rectangle of a sheet, as players expect of thumbnails."""
    lines = ["WEBVTT", ""]
    step = board.step_gops * timing.gop_frames / timing.frame_rate
    for tile in range(board.tiles):
        sheet, place = divmod(tile, COLUMNS * ROWS)
        row, column = divmod(place, COLUMNS)
        area = f"{column * board.width},{row * board.height},{board.width},{board.height}"
        ends = min((tile + 1) * step, timing.duration)
        lines += [f"{_clock(tile * step)} --> {_clock(ends)}", f"{sheet_name(sheet)}#xywh={area}", ""]
    return "\n".join(lines)


def _clock(moment: Fraction) -> str:
    thousandths = round(moment * 1000)
    seconds, thousandths = divmod(thousandths, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{thousandths:03d}"


def make_poster(ffmpeg: Ffmpeg, master: Path, report: ProbeReport, stall_s: float, folder: Path) -> None:
    """Writes `poster.jpg`: the picture at a tenth of the video, at most 720 pixels on its shorter side. Raises TaskFailed."""
    at = min(
        report.duration / 10, Fraction(LATEST_POSTER_S), max(Fraction(0), report.video_end - report.zero - 1 / report.frame_rate)
    )
    start = report.zero + at
    seek = ["-noaccurate_seek", "-seek_timestamp", "1", "-ss", f"{float(start):.6f}"] if at and report.seekable else []
    scale = min(Fraction(1), Fraction(POSTER_SHORT_SIDE, min(report.width, report.height)))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (report.width, report.height))
    rate = f"{report.frame_rate.numerator}/{report.frame_rate.denominator}"
    filters = [DEINTERLACE, f"setpts=PTS-({float(start):.6f})/TB", f"fps=fps={rate}:start_time=0", "tpad=stop=1:stop_mode=clone"]
    filters += [TONE_MAP] if report.transfer and ffmpeg.tone_maps else []
    filters += [f"scale={width}:{height}:flags=bicubic:out_range=pc", "setsar=1", "format=yuvj420p"]
    command = [
        *common_arguments(ffmpeg),
        *("-copyts", *seek, *hostile_input(master), "-map", f"0:{report.video_index}", "-map_metadata", "-1"),
        *("-vf", ",".join(filters), "-frames:v", "1", "-update", "1", "-c:v", "mjpeg", "-q:v", "4", "-bitexact", "-y", POSTER),
    ]
    limits = Limits(cpu_s=600, file_bytes=ROOM_BYTES, stall_s=stall_s, nice=BACKGROUND)
    check_ending(run_child(command, folder, limits), float(at))


def make_storyboard(
    ffmpeg: Ffmpeg, init: Path, segments: Sequence[Path], rung: VideoRung, timing: Timing, stall_s: float, folder: Path
) -> None:
    """Writes the sheets and `storyboard.vtt`. Only keyframes are decoded. Raises TaskFailed."""
    board = storyboard_for(timing, rung)
    whole = folder / "rung.mp4"
    with whole.open("wb") as target:
        for part in (init, *segments):
            with part.open("rb") as source:
                shutil.copyfileobj(source, target)
    filters = [
        f"select='not(mod(n,{board.step_gops}))'",
        f"scale={board.width}:{board.height}:flags=area:out_range=pc",
        f"setsar=1,format=yuvj420p,tile={COLUMNS}x{ROWS}",
    ]
    command = [
        *common_arguments(ffmpeg),
        *(
            "-skip_frame",
            "nokey",
            *hostile_input(whole, "mp4"),
            "-map",
            "0:v:0",
            "-vf",
            ",".join(filters),
            "-fps_mode",
            "passthrough",
        ),
        *("-c:v", "mjpeg", "-q:v", "5", "-bitexact", "-start_number", "0", "-y", "storyboard_%03d.jpg"),
    ]
    limits = Limits(cpu_s=60 + 2 * math.ceil(timing.duration), file_bytes=ROOM_BYTES, stall_s=stall_s, nice=BACKGROUND)
    check_ending(run_child(command, folder, limits), 0.0)
    whole.unlink()
    (folder / STORYBOARD_INDEX).write_text(storyboard_vtt(board, timing), encoding="utf-8")
