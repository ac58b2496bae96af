"""A real NATS server with JetStream on a port of the caller's choice, started and killed as often as a test likes."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.support.deployments import free_port

STARTS_WITHIN_S = 20


class NatsServer:
    """Its stream lies in `folder` and survives a kill."""

    def __init__(self, folder: Path) -> None:
        self._program = shutil.which("nats-server")
        if self._program is None:
            pytest.skip("nats-server is missing: install the package nats-server")
        self._folder = folder
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"nats://127.0.0.1:{self._port}"

    async def start(self) -> None:
        assert self._program is not None
        arguments = ("-js", "-a", "127.0.0.1", "-p", str(self._port), "-sd", str(self._folder))
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(self._program, *arguments, stdout=quiet, stderr=quiet)
        async with asyncio.timeout(STARTS_WITHIN_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                except OSError:
                    await asyncio.sleep(0.05)  # until its own socket listens
                    continue
                writer.close()
                await writer.wait_closed()
                return

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def messages(self, stream: str) -> list[dict[str, Any]]:
        """Everything that the stream keeps, in order."""
        async with connected(self.url) as client:
            context = client.jetstream()
            state = (await context.stream_info(stream)).state
            kept = [await context.get_msg(stream, number) for number in range(state.first_seq, state.last_seq + 1)]
        return [json.loads(message.data or b"") for message in kept]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[NatsServer]:
    """Not started yet; killed at the end."""
    server = NatsServer(folder)
    try:
        yield server
    finally:
        await server.kill()
