"""The origin's API as a real process that can be killed and started again, with a control that never has news."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from headwater.runtime.httpsite import serve_app
from headwater.settings.deployment import Deployment
from headwater.settings.load import load_deployment
from origin.catalogue.ownertoken import ensure_creator_token
from tests.support.deployments import ROOT
from tests.support.origin import Creator, bearer


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
        self.deployment = deployment
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
            async with self.creator.session.get(f"{self.deployment.origin.api.listen.url}/api/v1/videos"):
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


@asynccontextmanager
async def killable_origin(config: Path) -> AsyncIterator[Origin]:
    """Not started yet; killed at the end."""
    deployment = load_deployment(config)
    token = await ensure_creator_token(deployment)
    async with (
        quiet_control(deployment),
        aiohttp.ClientSession(deployment.origin.api.listen.url, headers=bearer(token)) as session,
    ):
        origin = Origin(config, deployment, session)
        try:
            yield origin
        finally:
            await origin.kill()
