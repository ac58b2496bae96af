"""A 60-minute 1080p film through the origin, beside a 5-minute one: does memory grow with length?

    python -m tests.drills film [--minutes 60] [--short 5] [--kbps 1500] [--write]        (make drills DRILL="film --write")

Ten seconds of 1080p of our own making are looped by stream copy, uploaded by the real command to a real origin, and made into two
rungs: 240p encoded, 1080p copied through (a ladder that ends in minutes on two cores; every rung more would be one more output of
the same ffmpeg processes, whose memory depends on its size, not on the film's length). Twice a second the resident memory
(VmRSS) of each process of the origin's API and transcoder, of its task workers and of each child is read; the peaks of both films
stand side by side. Fails when a kind's peak grows by more than a quarter and 32 MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.support.deployments import ROOT
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.media import ffmpeg_path

NODES: Final = ("control", "origin-api", "origin-transcoder")
UNDER_WAY: Final = ("waiting", "running")
LOOP_S: Final = 10
LOOK_S: Final = 0.5
PAGE: Final = ROOT / "docs" / "transcoding.md"
BEGIN, END = "<!-- film drill -->\n", "<!-- end of film drill -->\n"
ALLOWED_SHARE, ALLOWED_MIB = 1.25, 32
KINDS: Final = ("API", "transcoder", "task worker", "ffmpeg", "probe", "other child")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="film")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--short", type=float, default=5)
    parser.add_argument("--kbps", type=int, default=1500)
    parser.add_argument("--write", action="store_true", help="write the result into docs/transcoding.md")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="headwater-film-") as folder:
        made = [asyncio.run(one_film(Path(folder), minutes, options.kbps)) for minutes in (options.short, options.minutes)]
    text, grew = report(made, options.kbps)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2], encoding="utf-8")
    return 1 if grew else 0


class Film:
    """What one film needed: peaks in MiB by kind of process, and seconds."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.size_mib = 0.0
        self.took_s = 0.0
        self.peaks: dict[str, float] = dict.fromkeys(KINDS, 0.0)


async def one_film(folder: Path, minutes: float, kbps: int) -> Film:
    film = Film(minutes)
    file = await asyncio.to_thread(looped, folder, minutes, kbps)
    film.size_mib = file.stat().st_size / 2**20
    place = folder / f"lab-{minutes:g}"
    place.mkdir()
    async with running_lab(place, NODES, two_rungs) as lab:
        watching = asyncio.create_task(watch(lab, film))
        began = time.monotonic()
        try:
            done = await asyncio.to_thread(lab.headwater, "upload", "--api", lab.api, "--no-wait", str(file), timeout_s=3600)
            assert done.returncode == 0, done.stderr
            video_id = (await lab.ask("/api/v1/videos", params={"limit": "1"}))["videos"][0]["video_id"]
            at = f"/api/v1/videos/{video_id}/making"
            while (job := (await lab.ask(at))["job"])["state"] in UNDER_WAY:  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(LOOK_S)
            assert job["state"] == "done", job
        finally:
            watching.cancel()
        film.took_s = time.monotonic() - began
    file.unlink()
    return film


def two_rungs(content: JsonObject) -> None:
    ladder = [{"height": 240, "max_bitrate_kbps": 400}, {"height": 1080, "max_bitrate_kbps": 6500}]
    content["origin"]["transcode"] = {"ladder": ladder, "first_height": 240, "preset": "ultrafast"}
    content["origin"].setdefault("uploads", {})["max_size"] = "50 GiB"


def looped(folder: Path, minutes: float, kbps: int) -> Path:
    """The picture is copied over and over: a film costs little to make, and its rate is constant, as copying through wants."""
    loop, file = folder / "loop.mp4", folder / f"film-{minutes:g}.mp4"
    quiet = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "error"]
    if not loop.exists():
        picture = f"testsrc2=size=1920x1080:rate=25:duration={LOOP_S},noise=alls=6:allf=t"
        rate = f"-b:v {kbps}k -maxrate {kbps}k -bufsize {kbps}k -g 50 -keyint_min 50 -sc_threshold 0 -bf 0"
        coded = ["-c:v", "libx264", "-preset", "ultrafast", *rate.split(), "-pix_fmt", "yuv420p", "-flags", "+cgop"]
        subprocess.run([*quiet, "-f", "lavfi", "-i", picture, *coded, str(loop)], check=True)
    sound = ["-f", "lavfi", "-i", "sine=frequency=440"]
    length = ["-t", f"{minutes * 60:g}", "-c:v", "copy", "-c:a", "aac", "-b:a", "64k"]
    subprocess.run([*quiet, "-stream_loop", "-1", "-i", str(loop), *sound, *length, "-y", str(file)], check=True)
    return file


async def watch(lab: Lab, film: Film) -> None:
    roots = {"API": lab.processes["origin-api"].pid, "transcoder": lab.processes["origin-transcoder"].pid}
    while True:
        for kind, mib in await asyncio.to_thread(lambda: list(resident(roots))):
            film.peaks[kind] = max(film.peaks[kind], mib)
        await asyncio.sleep(LOOK_S)


def resident(roots: dict[str, int]) -> Iterator[tuple[str, float]]:
    """(kind, MiB) of each process below these."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError):
                stat = Path("/proc", name, "stat").read_text()
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(name))
    for kind, root in roots.items():
        waiting = [(root, kind)]
        while waiting:
            pid, of_kind = waiting.pop()
            with suppress(OSError, ValueError, StopIteration):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                yield of_kind, int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
            waiting += [(child, kind_of(child)) for child in children.get(pid, [])]


def kind_of(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "other child"
    if b"ffmpeg" in command.split(b"\0")[0]:
        return "ffmpeg"
    if b"probechild" in command and b"launch.py" not in command:
        return "probe"
    return "task worker" if b"multiprocessing" in command else "other child"


def report(films: list[Film], kbps: int) -> tuple[str, list[str]]:
    short, long = films
    grew = [
        kind
        for kind in KINDS
        if long.peaks[kind] > ALLOWED_SHARE * short.peaks[kind] and long.peaks[kind] > short.peaks[kind] + ALLOWED_MIB
    ]
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.0f}, Python {platform.python_version()}"
    lines = [
        f"{day}, {machine}: 1080p at {kbps} kbit/s, "
        f"{short.minutes:g} minutes ({short.size_mib:.0f} MiB, done after {short.took_s:.0f} s) and {long.minutes:g} minutes "
        f"({long.size_mib:.0f} MiB, {long.took_s:.0f} s), from the upload's begin to the job's end. Largest single process of "
        "each kind, peak resident memory in MiB:",
        "",
        f"| process | {short.minutes:g} min | {long.minutes:g} min | growth |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        before, after = short.peaks[kind], long.peaks[kind]
        lines.append(f"| {kind} | {before:.0f} | {after:.0f} | {after - before:+.0f} |")
    verdict = (
        f"Grew beyond a quarter and {ALLOWED_MIB} MiB: {', '.join(grew)}." if grew else "Nothing grew with the film's length."
    )
    return "\n".join([*lines, "", verdict, ""]), grew
