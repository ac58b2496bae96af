"""The same graph on a scheduler and workers that are other processes, which see the data folder."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from distributed import Scheduler

from headwater.settings.deployment import Deployment
from headwater.settings.origin import SchedulerTls
from origin.transcode.graph.cluster import scheduler_security
from tests.support.barriers import barrier
from tests.support.certificates import authority
from tests.support.deployments import ROOT
from tests.support.media import decode, make_clip
from tests.support.transcoding import quick, studio, transcoder

VIDEO = "AAAAAAAAAAA"


@asynccontextmanager
async def worker(address: str, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`headwater worker`, once it has joined."""
    command = [sys.executable, "-m", "headwater", "worker", "--scheduler", address, "--places", "1", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        said = await asyncio.wait_for(process.stdout.readline(), 60)
        assert said.startswith(b"working for"), said
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@asynccontextmanager
async def remote_scheduler(tls: SchedulerTls) -> AsyncIterator[str]:
    """The address of Dask's own scheduler."""
    security: Any = scheduler_security(tls)
    security.tls_scheduler_cert, security.tls_scheduler_key = security.tls_worker_cert, security.tls_worker_key
    options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "protocol": "tls", "dashboard_address": "127.0.0.1:0"}
    async with Scheduler(**options, security=security) as scheduler:
        yield str(scheduler.address)


async def test_a_video_is_made_by_workers_elsewhere_one_of_which_is_killed(deployment: Deployment, tmp_path: Path) -> None:
    """Over mutual TLS; plain TCP differs in the address alone."""
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=14, width=320, height=240)
    held = barrier(tmp_path, holding="*-ss*libx264*")
    issuer = authority(tmp_path)
    files = issuer.issue("node", "127.0.0.1")
    tls = SchedulerTls(authority=issuer.file, certificate=files.certificate, key=files.key)
    own = ["--tls-authority", str(issuer.file), "--tls-certificate", str(files.certificate), "--tls-key", str(files.key)]
    async with remote_scheduler(tls) as address:
        settings = quick(deployment, scheduler=address, scheduler_tls=tls, ffmpeg=held.program)
        async with worker(address, *own) as first, worker(address, *own) as second, studio(settings) as at:
            async with transcoder(settings):
                video_id = await at.upload(VIDEO, clip)
                async with asyncio.timeout(60):
                    while held.waiting < 2:  # noqa: ASYNC110  # another process comes to the barrier
                        await asyncio.sleep(0.02)
                first.kill()
                await first.wait()
                held.open()
                assert (await at.job_ended(video_id)).state == "done"
            out = await at.export(video_id, tmp_path / "out")
            assert second.returncode is None
    decoded = decode(out / "master.m3u8")
    assert decoded.clean, decoded.complaints
    assert [len(times) for times in decoded.video] == [350, 350]


async def test_a_worker_without_a_scheduler_says_what_to_start() -> None:
    command = [sys.executable, "-m", "headwater", "worker", "--scheduler", "tcp://127.0.0.1:9", "--tls-key", __file__]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"go together" in errors
