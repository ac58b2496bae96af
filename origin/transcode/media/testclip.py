"""A clip to try things with: moving picture, burnt-in time, a tone that beeps every second. Always the same bytes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from origin.transcode.programs.tools import find_ffmpeg

FONT_WIDTH, FONT_HEIGHT = 3, 5
# Seven-segment digits as rows of three cells, so that no font file is needed.
DIGITS = (
    "111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001",
    "111100111001111", "111100111101111", "111001001001001", "111101111101111", "111101111001111",
)  # fmt: skip
MAKING_S = 300
THREADS = "4"  # x264 gives other bytes with another number, whatever the machine has


def make_demo_clip(
    path: Path, *, seconds: float = 20.0, width: int = 1280, height: int = 720, rate: str = "25", ffmpeg: str = "auto"
) -> Path:
    """Writes an MP4 (H.264, AAC) to `path` and returns it. Raises NoFfmpeg or subprocess.CalledProcessError."""
    tool = find_ffmpeg(ffmpeg)
    picture = f"testsrc2=size={width}x{height}:rate={rate}:duration={seconds}"
    # A tone of 440 Hz, and 880 Hz for the first tenth of every second: sound and burnt-in time can be compared by ear.
    tone = f"aevalsrc='0.1*sin(2*PI*440*t)+0.3*sin(2*PI*880*t)*lt(mod(t,1),0.1)':s=48000:d={seconds}"
    command = [
        *(tool.path, "-hide_banner", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone),
        *(
            "-vf",
            clock_filters(height),
            "-c:v",
            "libx264",
            "-threads",
            THREADS,
            "-preset",
            "veryfast",
            "-crf",
            "20",
            "-pix_fmt",
            "yuv420p",
        ),
        *("-c:a", "aac", "-b:a", "128k", "-ac", "2", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"),
        *("-movflags", "+faststart", "-f", "mp4", "-y", str(path)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, check=True, capture_output=True, timeout=MAKING_S)
    return path


def clock_filters(height: int) -> str:
    """The time as mm:ss.d in the picture's upper left, drawn as boxes that are there only while their digit is."""
    cell = max(2, height // 60)
    step = cell * (FONT_WIDTH + 1)
    left, top = cell * 2, cell * 2
    drawn = [f"drawbox=x=0:y=0:w={step * 7 + 3 * cell}:h={cell * (FONT_HEIGHT + 4)}:color=black:t=fill"]
    # (place, seconds that one digit lasts, number of its values)
    for place, lasts, values in ((0, 600, 6), (1, 60, 10), (3, 10, 6), (4, 1, 10), (6, 0.1, 10)):
        drawn += _digit(left + place * step, top, cell, lasts, values)
    for x, y in (
        (left + 2 * step + cell, top + cell),
        (left + 2 * step + cell, top + 3 * cell),
        (left + 5 * step + cell, top + 4 * cell),
    ):
        drawn.append(f"drawbox=x={x}:y={y}:w={cell}:h={cell}:color=white:t=fill")
    return ",".join(drawn)


def _digit(x: int, y: int, cell: int, lasts: float, values: int) -> list[str]:
    boxes = []
    for place in range(FONT_WIDTH * FONT_HEIGHT):
        lit = [value for value in range(values) if DIGITS[value][place] == "1"]
        # The small offset keeps a frame that begins exactly with its digit on the right side of rounding.
        shown = "+".join(f"eq(mod(floor((t+0.001)/{lasts}),{values}),{value})" for value in lit)
        row, column = divmod(place, FONT_WIDTH)
        where = f"x={x + column * cell}:y={y + row * cell}:w={cell}:h={cell}"
        boxes.append(f"drawbox={where}:color=white:t=fill:enable='{shown}'")
    return boxes
