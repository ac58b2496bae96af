"""A real API process, killed with SIGKILL between and within the steps of an upload: what it acknowledged is there."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from headwater.runtime.httpsite import serve_app
from headwater.settings.deployment import Deployment
from headwater.settings.load import load_deployment
from origin.catalogue.ownertoken import ensure_creator_token
from tests.support.deployments import ROOT, lab_config
from tests.support.origin import MIB, Answer, Creator, bearer, content_digest

PART = 5 * MIB
CLIP = random.Random(3).randbytes(2 * PART + 99)


@asynccontextmanager
async def quiet_control(deployment: Deployment) -> AsyncIterator[None]:
    """Control that never has news, so that the node does not wait for one that is not there."""

    over = asyncio.Event()

    async def snapshot(request: web.Request) -> web.Response:
        if float(request.query["wait"]):
            await over.wait()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/api/v1/snapshot", snapshot)
    async with serve_app(app, deployment.control.listen, drain_s=0.1):
        try:
            yield
        finally:
            over.set()


class Origin:
    """`headwater run origin-api` as a process that can be killed and started again."""

    def __init__(self, config: Path, deployment: Deployment, session: aiohttp.ClientSession) -> None:
        self._config = config
        self._deployment = deployment
        self._process: asyncio.subprocess.Process | None = None
        self.creator = Creator(session)

    async def start(self) -> None:
        log = os.open(self._config.with_name("origin.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        command = (sys.executable, "-m", "headwater", "run", "origin-api", "--config", str(self._config))
        self._process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=log, stderr=log)
        os.close(log)
        async with asyncio.timeout(30):
            while not await self._answers():
                assert self._process.returncode is None, self._config.with_name("origin.log").read_text()
                await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        try:
            async with self.creator.session.get(f"{self._deployment.origin.api.listen.url}/api/v1/videos"):
                return True
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def kill_and_start(self) -> None:
        await self.kill()
        await self.start()


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    config = lab_config(tmp_path)
    deployment = load_deployment(config)
    async with (
        quiet_control(deployment),
        aiohttp.ClientSession(
            deployment.origin.api.listen.url, headers=bearer(await ensure_creator_token(deployment))
        ) as session,
    ):
        origin = Origin(config, deployment, session)
        await origin.start()
        try:
            yield origin
        finally:
            await origin.kill()


async def slowly(body: bytes, half_sent: asyncio.Event) -> AsyncIterator[bytes]:
    """Half a body, and then nothing more."""
    yield body[: len(body) // 2]
    half_sent.set()
    await asyncio.Event().wait()


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_by_kill_9_between_any_two_steps(origin: Origin, tmp_path: Path) -> None:
    creator = origin.creator
    begun = await creator.begin(len(CLIP), key="one", part_size=PART)
    video_id = begun.body["video_id"]
    await origin.kill_and_start()

    again = await creator.begin(len(CLIP), key="one", part_size=PART)
    assert again.body["video_id"] == video_id
    first, second, _ = begun.body["upload"]["parts"]  # URLs signed before the kill still hold
    assert (await creator.put(first, CLIP[:PART])).status == 204
    body = CLIP[PART : 2 * PART]
    half_sent = asyncio.Event()
    headers = {"Content-Digest": content_digest(body), "Content-Length": str(len(body))}
    sending = asyncio.create_task(creator.ask("PUT", second["url"], data=slowly(body, half_sent), headers=headers))
    await half_sent.wait()
    await origin.kill_and_start()
    with pytest.raises(aiohttp.ClientError):
        await sending

    state = (await creator.state(video_id)).body
    assert [part["arrived"] for part in state["parts"]] == [True, False, False]
    await creator.put_all(state["parts"], CLIP)
    await origin.kill_and_start()
    assert all(part["arrived"] for part in (await creator.state(video_id)).body["parts"])

    for delay_s in (0.0, 0.01, 0.03):
        completing = asyncio.create_task(_completed_if_it_lives(creator, video_id))
        await asyncio.sleep(delay_s)  # a kill at an arbitrary point within `complete` is the point here
        await origin.kill_and_start()
        await completing
    completed = await creator.complete(video_id)
    assert (completed.status, completed.body["status"]) == (202, "processing")
    await origin.kill_and_start()
    assert (await creator.ask("GET", f"/api/v1/videos/{video_id}")).body["status"] == "processing"
    await origin.kill()

    with closing(sqlite3.connect(tmp_path / "data" / "catalogue.sqlite3")) as catalogue:
        assert catalogue.execute("SELECT video_id, state FROM jobs").fetchall() == [(video_id, "waiting")]
        assert catalogue.execute("SELECT count(*) FROM upload_parts").fetchone() == (3,)
        assert catalogue.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    blobs = [file for file in (tmp_path / "data" / "objects" / "masters" / "blobs").rglob("*") if file.is_file()]
    assert [file.read_bytes() == CLIP for file in blobs] == [True]


async def _completed_if_it_lives(creator: Creator, video_id: str) -> Answer | None:
    try:
        return await creator.complete(video_id)
    except aiohttp.ClientError:
        return None
