"""A deployment that control runs in this process: its file, and what nodes and operators may ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import structlog
import yaml

from control.operators.ownertoken import ensure_operator_token
from headwater.runtime.httpsite import admin_app, serve_app
from headwater.runtime.node import NodeContext
from headwater.runtime.nodetoken import NODE_HEADER, read_token
from headwater.settings.deployment import Deployment, admin_address
from headwater.settings.load import load_deployment
from headwater.settings.snapshot import Snapshot
from signer.keyring import KeyRing
from tests.support.deployments import lab_config

LOG = structlog.get_logger()


@dataclass
class Lab:
    """A config file, and what a node of it may ask control."""

    file: Path
    deployment: Deployment
    http: aiohttp.ClientSession

    def context(self, node: str) -> NodeContext:
        return NodeContext(node, self.deployment, LOG, self.file)

    @property
    def operator(self) -> dict[str, str]:
        """What an operator's requests carry."""
        return {"Authorization": f"Bearer {ensure_operator_token(self.deployment).text}"}

    @property
    def url(self) -> str:
        return self.deployment.control.listen.url

    async def ask(self, after: int = 0, wait: float = 10, node: str = "sin-1") -> Snapshot | None:
        headers = {NODE_HEADER: read_token(self.deployment.data, node)}
        query = {"after": after, "wait": wait, "node": node}
        async with self.http.get(f"{self.url}/api/v1/snapshot", params=query, headers=headers) as reply:
            assert reply.status in (200, 204)
            return Snapshot.model_validate_json(await reply.read()) if reply.status == 200 else None

    async def now(self) -> Snapshot:
        snapshot = await self.ask()
        assert snapshot is not None
        return snapshot

    async def status(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/api/v1/status", headers=self.operator) as reply:
            assert reply.status == 200
            tree: dict[str, Any] = await reply.json()
            return tree

    async def node(self, name: str) -> dict[str, Any]:
        return next(node for node in (await self.status())["nodes"] if node["name"] == name)

    def edit(self, path: str, new: Any) -> None:
        """Sets the value at a dotted path of the file."""
        content = yaml.safe_load(self.file.read_text())
        *parents, last = path.split(".")
        place = content
        for step in parents:
            place = place[step]
        place[last] = new
        self.file.write_text(yaml.safe_dump(content, sort_keys=False))

    async def snapshot_with(self, wanted: Any) -> Snapshot:
        """The first snapshot for which `wanted` holds."""
        async with asyncio.timeout(20):
            snapshot = await self.now()
            while not wanted(snapshot):
                snapshot = await self.ask(snapshot.version) or snapshot
        return snapshot


@asynccontextmanager
async def controlled_lab(folder: Path) -> AsyncIterator[Lab]:
    """The lab's config below `folder`, its nodes checked every 50 ms; control itself is not started."""
    file = lab_config(folder)
    content = yaml.safe_load(file.read_text())
    content["control"]["probe_interval"] = "50 ms"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    deployment = load_deployment(file)
    KeyRing(deployment.data / deployment.signing.keys).ensure("ed25519")
    ensure_operator_token(deployment)
    async with aiohttp.ClientSession() as http:
        yield Lab(file, deployment, http)


@asynccontextmanager
async def answering(lab: Lab, *nodes: str) -> AsyncIterator[None]:
    """The admin sites of these nodes, healthy."""
    async with AsyncExitStack() as sites:
        for node in nodes:
            await sites.enter_async_context(serve_app(admin_app(), admin_address(lab.deployment, node), drain_s=0.1))
        yield
