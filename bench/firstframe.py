"""From `complete` to the first playable frame through an edge, for sources of several lengths, with what each step took.

python -m bench.firstframe [--write]     (--write puts the table into docs/benchmarks.md; --beside-film: bench/besidefilm.py)

A whole lab on loopback. Sources are a real clip, looped without encoding it again; where there is none beside the clone, a drawn
one. The clock starts when the request `complete` is sent, and stops when an edge has given the bytes of the first picture and
the first sound.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from bench.placing import placed
from headwater.cli.uploader import head_and_index_first
from origin.transcode.media.testclip import make_demo_clip
from origin.transcode.programs.tools import find_ffmpeg
from tests.support.deployments import ROOT
from tests.support.lab import Lab, running_lab

LENGTHS = (("10 s", 10), ("5 min", 300), ("60 min", 3600))
PACE = 50 * 2**20  # bytes a second at which parts are sent: a fast line, on which the origin still has something to do meanwhile
POLL_S = 0.005
CLIP = ROOT.parent / "shared" / "media" / "bbb_1080p24_30s_51.mp4"
STEPS = ("probe", "encode/360p/0", "audio/0")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds from `complete` being sent; `tasks` are durations."""

    name: str
    size_bytes: int
    completed_s: float
    taken_s: float
    playable_s: float
    frame_s: float
    tasks: dict[str, float]


def source(folder: Path, seconds: int) -> Path:
    """A 1080p file of that length."""
    file = folder / f"source-{seconds}.mp4"
    if not CLIP.exists():
        return make_demo_clip(file, seconds=seconds, width=1920, height=1080, rate="24")
    loops = ["-stream_loop", str(-(-seconds // 30)), "-i", str(CLIP), "-t", str(seconds), "-c", "copy"]
    subprocess.run([find_ffmpeg("auto").path, "-hide_banner", "-loglevel", "error", *loops, "-y", str(file)], check=True)
    return file


async def measure(lab: Lab, name: str, file: Path) -> tuple[str, Measured]:
    """(video id, what it took)."""
    size_bytes = (await asyncio.to_thread(file.stat)).st_size
    video_id = await uploaded(lab, name, file, size_bytes)
    headers = {"Authorization": f"Bearer {lab.token}"}
    began, began_at = time.perf_counter(), time.time()
    answer = await lab.http.post(f"{lab.api}/api/v1/videos/{video_id}/upload/complete", headers=headers)
    answer.raise_for_status()
    completed_s = time.perf_counter() - began
    while (playback := await lab.ask(f"/api/v1/videos/{video_id}/playback"))["status"] != "playable":
        assert playback["status"] != "failed", playback["reason"]
        await asyncio.sleep(POLL_S)
    playable_s = time.perf_counter() - began
    await first_frame(lab, playback["hls"])
    frame_s = time.perf_counter() - began
    events = list(log_of(lab, video_id))
    taken_s = next(at for event, at, _ in events if event == "job taken") - began_at
    tasks = {line["task"]: line["took_s"] for event, _, line in events if event == "task done" and line["task"] in STEPS}
    return video_id, Measured(name, size_bytes, completed_s, taken_s, playable_s, frame_s, tasks)


async def uploaded(lab: Lab, name: str, file: Path, size_bytes: int) -> str:
    """All parts are there, sent as our own clients do; it is not complete."""
    headers = {"Authorization": f"Bearer {lab.token}"}
    new = {"title": name, "size": size_bytes, "content_type": "video/mp4", "filename": file.name}
    begun = await lab.http.post(f"{lab.api}/api/v1/videos", json=new, headers=headers)
    begun.raise_for_status()
    upload = begun.json()["upload"]
    sent, began = 0, time.perf_counter()
    with file.open("rb") as content:
        for part in head_and_index_first(upload["parts"]):
            content.seek((part["number"] - 1) * upload["part_size"])
            body = await asyncio.to_thread(content.read, part["size"])
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            put = await lab.http.put(part["url"], content=body, headers={"Content-Digest": f"sha-256=:{digest}:"})
            put.raise_for_status()
            sent += len(body)
            await asyncio.sleep(max(0.0, sent / PACE - (time.perf_counter() - began)))
    return str(begun.json()["video_id"])


async def first_frame(lab: Lab, master: str) -> None:
    """What a player loads before it shows anything: master, playlists, headers, first segments."""

    async def text(url: str) -> str:
        answer = await lab.http.get(url)
        answer.raise_for_status()
        return answer.text

    manifest = await text(master)
    playlists = [urljoin(master, line) for line in manifest.splitlines() if line and not line.startswith("#")][:1]
    playlists += [urljoin(master, found) for found in re.findall(r'TYPE=AUDIO.*URI="([^"]+)"', manifest)]
    for playlist, body in zip(playlists, await asyncio.gather(*map(text, playlists)), strict=True):
        names = re.findall(r'MAP:URI="([^"]+)"', body) + [line for line in body.splitlines() if line.endswith(".m4s")][:1]
        for answer in await asyncio.gather(*(lab.http.get(urljoin(playlist, name)) for name in names)):
            answer.raise_for_status()


def log_of(lab: Lab, video_id: str) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """(event, Unix seconds, line) of the transcoder about one video."""
    import json

    from headwater.runtime.nodeprocess import log_files

    for text in log_files(lab.deployment.data, "origin-transcoder").service.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line.get("video_id") == video_id:
            stamp = line.get("timestamp") or line["time"]
            at = stamp if isinstance(stamp, float) else datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp()
            yield line["event"], at, line


def table(rows: list[Measured], load: float) -> str:
    lines = [
        "## From complete to the first frame",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `python -m bench.firstframe`, {os.cpu_count()} cores, "
        f"load average when it began: {load:.1f}. Source: 1080p H.264 at 24 frames a second with 5.1 sound.",
        "Seconds; the first four count from sending `complete`, the others are durations of single steps. Parts of the default "
        f"size came at up to {PACE // 2**20} MiB/s, the first and the last first; a window of nearly 0 s was made meanwhile.",
        "",
        "| source | MiB | complete answered | taken | playable | first frame | probe | first window | first sound |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        numbers = [row.completed_s, row.taken_s, row.playable_s, row.frame_s, *(row.tasks.get(step, 0.0) for step in STEPS)]
        lines.append(f"| {row.name} | {row.size_bytes / 2**20:.0f} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")
    return "\n".join([*lines, ""])


async def run(folder: Path) -> str:
    load = os.getloadavg()[0]
    rows = []
    for name, seconds in LENGTHS:
        file = await asyncio.to_thread(source, folder, seconds)
        # A lab for each: what the one before has left to encode would stand in the way.
        (folder / f"lab-{seconds}").mkdir()
        async with running_lab(folder / f"lab-{seconds}") as lab:
            warm = await asyncio.to_thread(make_demo_clip, folder / "warm.mp4", seconds=1)
            await lab.whole_video(await lab.upload(warm))
            rows.append((await measure(lab, name, file))[1])
        file.unlink()
    return table(rows, load)


def main() -> None:
    from bench import besidefilm

    beside = "--beside-film" in sys.argv[1:]
    minutes = next((int(argument) for argument in sys.argv[1:] if argument.isdigit()), besidefilm.FILM_MINUTES)
    with tempfile.TemporaryDirectory() as made:
        text = asyncio.run(besidefilm.run(Path(made), minutes) if beside else run(Path(made)))
    print(text)
    if "--write" in sys.argv[1:]:
        placed(ROOT / "docs" / "benchmarks.md", "besidefilm" if beside else "firstframe", text)


if __name__ == "__main__":
    main()
