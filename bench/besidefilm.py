"""A short clip alone, and while a film of two hours is being encoded: from `complete` to its first frame through an edge.

python -m bench.firstframe --beside-film [MINUTES] [--write]     (--write puts the table into docs/benchmarks.md)
"""

from __future__ import annotations

import asyncio
import os
import secrets
import struct
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.firstframe import Measured, measure, source, uploaded
from origin.transcode.media.testclip import make_demo_clip
from tests.support.lab import Lab, running_lab

CLIP_S = 10
ROUNDS = 3
FILM_MINUTES = 120
AT_MOST = 2.0  # times as long as alone


def another(clip: Path, folder: Path) -> Path:
    """The same clip as another file: a file that was uploaded before is not stored again."""
    file = folder / f"clip-{secrets.token_hex(4)}.mp4"
    file.write_bytes(clip.read_bytes() + struct.pack(">I4s", 16, b"free") + secrets.token_bytes(8))
    return file


async def clips(lab: Lab, name: str, clip: Path, folder: Path, *, whole: bool) -> list[Measured]:
    """One after another; each is made `whole` before the next, or not waited for."""
    rows = []
    for number in range(ROUNDS):
        video_id, row = await measure(lab, f"{name} {number + 1}", another(clip, folder))
        if whole:
            await lab.whole_video(video_id)
        rows.append(row)
    return rows


async def film_in_work(lab: Lab, film: Path) -> str:
    """It plays, and is far from made."""
    video_id = await uploaded(lab, "film", film, (await asyncio.to_thread(film.stat)).st_size)
    headers = {"Authorization": f"Bearer {lab.token}"}
    answer = await lab.http.post(f"{lab.api}/api/v1/videos/{video_id}/upload/complete", headers=headers, timeout=600)
    answer.raise_for_status()
    await lab.video_when(video_id, lambda video: video["status"] == "ready" and video["progress"] > 0)
    return video_id


async def run(folder: Path, minutes: int) -> str:
    load = os.getloadavg()[0]
    clip = await asyncio.to_thread(source, folder, CLIP_S)
    film = await asyncio.to_thread(source, folder, 60 * minutes)
    async with running_lab(folder) as lab:
        warm = await asyncio.to_thread(make_demo_clip, folder / "warm.mp4", seconds=1)
        await lab.whole_video(await lab.upload(warm))
        alone = await clips(lab, "alone", clip, folder, whole=True)
        film_id = await film_in_work(lab, film)
        beside = await clips(lab, "beside the film", clip, folder, whole=False)
        film_made = (await lab.ask(f"/api/v1/videos/{film_id}"))["progress"]
    return table(alone, beside, minutes, film_made, load)


def table(alone: list[Measured], beside: list[Measured], minutes: int, film_made: float, load: float) -> str:
    ratio = median(row.frame_s for row in beside) / median(row.frame_s for row in alone)
    lines = [
        "## A clip beside a film",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `python -m bench.firstframe --beside-film {minutes}`, "
        f"{os.cpu_count()} cores, load average when it began: {load:.1f}.",
        f"A clip of {CLIP_S} s of 1080p, three times alone and three times while a film of {minutes} min is being encoded on the "
        f"same cores ({film_made:.1%} of it was made at the end). Seconds from sending `complete`.",
        "",
        "| clip | playable | first frame | probe | first window |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in [*alone, *beside]:
        window = row.tasks.get("encode/360p/0", 0.0)
        lines.append(
            f"| {row.name} | {row.playable_s:.2f} | {row.frame_s:.2f} | {row.tasks.get('probe', 0):.2f} | {window:.2f} |"
        )
    verdict = "within" if ratio <= AT_MOST else "NOT within"
    return "\n".join([*lines, "", f"Median beside the film to median alone: **{ratio:.2f}**, {verdict} {AT_MOST:g}.", ""])
