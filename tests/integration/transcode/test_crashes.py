"""Killed at any moment, the transcoder goes on where it was; nothing it started stays behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import yaml

from headwater.rules.names import VideoId
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.load import load_deployment
from origin.catalogue.engine import reading
from origin.catalogue.jobs import claim_next, finish, release, renew
from origin.catalogue.tasklog import tasks_of
from tests.support.barriers import barrier
from tests.support.deployments import ROOT, lab_config
from tests.support.media import decode, ffmpeg_path, make_clip
from tests.support.transcoding import Studio, quick, studio, transcoder

VIDEO = "AAAAAAAAAAA"
MARK = b"kept"


@asynccontextmanager
async def process(config: Path, log: Path) -> AsyncIterator[psutil.Process]:
    """The node as `headwater up` runs it."""
    command = [sys.executable, "-m", "headwater", "run", "origin-transcoder", "--config", str(config)]
    with log.open("ab") as errors:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        started = await asyncio.to_thread(subprocess.Popen, command, stderr=errors, env=environment, start_new_session=True)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        await asyncio.to_thread(started.wait, 60)


def slow_config(folder: Path) -> Path:
    """A config whose encoding takes a few seconds in several ranges."""
    file = lab_config(folder)
    content = yaml.safe_load(file.read_text())
    ladder = [{"height": 240, "max_bitrate_kbps": 400}, {"height": 360, "max_bitrate_kbps": 900}]
    content["origin"]["transcode"] |= {"ladder": ladder, "preset": "veryfast", "range_segments": 1, "poll": "50 ms"}
    file.write_text(yaml.safe_dump(content))
    return file


async def progress_of(at: Studio, video_id: VideoId, name: str) -> float:
    row = (await at.renditions(video_id)).get(name)
    return row.progress if row is not None else 0.0


async def until_underway(at: Studio, video_id: VideoId) -> None:
    async with asyncio.timeout(180):  # in the background, beside whatever else the machine does
        while await progress_of(at, video_id, "h264/240p") == 0:  # noqa: ASYNC110  # another process moves it
            await asyncio.sleep(0.02)


async def test_a_killed_transcoder_leaves_no_process_and_the_next_one_goes_on(tmp_path: Path) -> None:
    config = slow_config(tmp_path)
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=12)
    log = tmp_path / "log"
    async with studio(load_deployment(config)) as at:
        video_id = await at.upload(VIDEO, clip)
        async with process(config, log) as first:
            await until_underway(at, video_id)
            children = first.children(recursive=True)
            first.send_signal(signal.SIGKILL)
            gone, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
            assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
            assert len(gone) >= 2
        assert (await at.job(video_id)).state == "running"
        shown = await at.export(video_id, tmp_path / "shown")
        marked = mark_outputs(at.deployment.data / "nodes" / "origin-transcoder" / "work" / video_id, shown)
        assert marked
        async with process(config, log):
            job = await at.job_ended(video_id)
        assert (job.state, job.attempts) == ("done", 2)
        assert (await at.video(video_id)).state == "ready"
        out = await at.export(video_id, tmp_path / "out")
    decoded = decode(out / "master.m3u8")
    assert decoded.clean, decoded.complaints
    assert [len(times) for times in decoded.video] == [300, 300]
    found = [file for file in out.rglob("segment_*.m4s") if file.read_bytes()[12:16] == MARK]
    assert len(found) == marked, "what was encoded before the kill is not encoded again"


def mark_outputs(work: Path, shown: Path) -> int:
    """Writes MARK over styp's minor version in the segments that were made but not shown yet; returns how many there are."""
    known = {file.read_bytes() for file in shown.rglob("segment_*.m4s")}
    made = [file for folder in work.glob("encode-*") for file in folder.rglob("segment_*.m4s")]
    segments = [file for file in made if file.read_bytes() not in known]
    for segment in segments:
        content = segment.read_bytes()
        segment.write_bytes(content[:12] + MARK + content[16:])
    return len(segments)


async def test_a_killed_workers_task_runs_again_and_the_video_is_made(deployment: Deployment, tmp_path: Path) -> None:
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=8)
    settings = quick(deployment, preset="veryfast", range_segments=1)
    async with studio(settings) as at, transcoder(settings):
        video_id = await at.upload(VIDEO, clip)
        worker = (await a_running_ffmpeg()).parent()
        assert worker is not None
        worker.kill()
        assert (await at.job_ended(video_id)).state == "done"
        assert (await at.video(video_id)).state == "ready"


async def test_a_lost_output_is_made_again(deployment: Deployment, tmp_path: Path) -> None:
    """Somebody cleans up the wrong folder while a video is made."""
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=12, width=320, height=240)
    held = barrier(tmp_path, holding="*-ss*libx264*")
    settings = quick(deployment, ffmpeg=held.program)
    lost = value("headwater_transcode_tasks_total", kind="package", outcome="output-lost")
    async with studio(settings) as at, transcoder(settings):
        video_id = await at.upload(VIDEO, clip)
        async with asyncio.timeout(60):
            while held.waiting < 2 or (await at.video(video_id)).state != "ready":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        work = deployment.data / "nodes" / "origin-transcoder" / "work" / video_id
        (first,) = [folder for folder in work.glob("encode-*") if folder.is_dir()]
        await asyncio.to_thread(shutil.rmtree, first)
        held.open()
        assert (await at.job_ended(video_id)).state == "done"
        out = await at.export(video_id, tmp_path / "out")
    assert decode(out / "master.m3u8").clean
    assert value("headwater_transcode_tasks_total", kind="package", outcome="output-lost") == lost + 1


async def test_a_hung_ffmpeg_is_replaced(deployment: Deployment, tmp_path: Path) -> None:
    """Stuck transcodes: PeerTube #5691, #4896."""
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=6, width=320, height=240)
    program, hung = tmp_path / "hanging-ffmpeg", tmp_path / "hung"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *libx264*) if mkdir {hung} 2>/dev/null; then exec sleep 600; fi;; esac\n'
        f'exec {ffmpeg_path()} "$@"\n'
    )
    program.chmod(0o755)
    settings = quick(deployment, ffmpeg=str(program), task_timeout=5)
    stalled = value("headwater_transcode_tasks_total", kind="encode", outcome="stalled")
    async with studio(settings) as at, transcoder(settings):
        video_id = await at.upload(VIDEO, clip)
        assert (await at.job_ended(video_id)).state == "done"
        async with reading(at.engine) as connection:
            tasks = {task.name: task for task in await tasks_of(connection, video_id)}
    assert hung.is_dir()
    assert value("headwater_transcode_tasks_total", kind="encode", outcome="stalled") >= stalled + 1
    (tried,) = [task for task in tasks.values() if task.error and "made no progress" in task.error]
    assert (tried.state, tried.kind) == ("done", "encode")
    assert tried.attempts >= 2


async def a_running_ffmpeg() -> psutil.Process:
    async with asyncio.timeout(60):
        while True:
            for child in psutil.Process().children(recursive=True):
                if "ffmpeg" in child.name():
                    return child
            await asyncio.sleep(0.01)


async def test_two_coordinators_never_hold_one_job(deployment: Deployment, tmp_path: Path) -> None:
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=1)
    async with studio(deployment) as at:
        video_id = await at.upload(VIDEO, clip)
        claims = await asyncio.gather(*(claim_next(at.engine, f"c{n}", now=100.0, lease_s=15) for n in range(8)))
        holders = [f"c{n}" for n, job in enumerate(claims) if job is not None]
        assert len(holders) == 1
        assert await claim_next(at.engine, "late", now=114.9, lease_s=15) is None
        assert await renew(at.engine, video_id, holders[0], now=110.0, lease_s=15)
        assert await claim_next(at.engine, "late", now=124.9, lease_s=15) is None
        taken = await claim_next(at.engine, "late", now=125.0, lease_s=15)
        assert taken is not None
        assert taken.attempts == 2
        assert not await renew(at.engine, video_id, holders[0], now=126.0, lease_s=15)
        assert not await finish(at.engine, video_id, holders[0], now=126.0)
        assert await finish(at.engine, video_id, "late", now=127.0)
        assert await claim_next(at.engine, "c0", now=9999.0, lease_s=15) is None


async def test_a_coordinator_that_returns_takes_its_own_job_at_once(deployment: Deployment, tmp_path: Path) -> None:
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=1)
    async with studio(deployment) as at:
        await at.upload(VIDEO, clip)
        assert await claim_next(at.engine, "me", now=100.0, lease_s=15)
        assert await release(at.engine, "other", now=101.0) == 0
        assert await claim_next(at.engine, "me", now=101.0, lease_s=15) is None
        assert await release(at.engine, "me", now=101.0) == 1
        assert await claim_next(at.engine, "me", now=101.0, lease_s=15)
