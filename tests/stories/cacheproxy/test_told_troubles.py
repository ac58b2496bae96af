"""What a cache tells control of its parents: that they cannot be reached, not that something behind them fails."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from headwater.cacheproxy.roles import Site
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.files import out_of_files
from tests.support.proxies import running_edge, with_parents
from tests.support.scriptedparent import Asked, Script, header, scripted_parent, serving


async def breaking_off(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """As a shield does whose own parent breaks off."""
    writer.write(header("200 OK", "Content-Length: 100") + b"half")
    await writer.drain()
    writer.transport.abort()


async def late(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """As a shield does that waits for a slow site."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("script", [breaking_off, late])
async def test_a_parent_is_not_called_bad_for_what_its_own_parent_does(
    deployment: Deployment, tmp_path: Path, script: Script
) -> None:
    settings = CacheSettings.model_validate({"first_byte_timeout": "100 ms", "stall_timeout": "100 ms"})
    async with (
        scripted_parent(script) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings) as edge,
    ):
        with suppress(aiohttp.ClientError):
            assert (await edge.get("/videos/AAAAAAAAAAA/x"))[0] >= 500
        assert parent.asked
        assert edge.proxy.troubles() == {}


async def test_a_parent_that_nobody_reaches_is_told_of(deployment: Deployment, tmp_path: Path) -> None:
    async with scripted_parent(late) as parent:
        snapshot = with_parents(deployment, [parent.address])
    async with running_edge(snapshot, tmp_path) as edge:
        assert (await edge.get("/videos/AAAAAAAAAAA/x"))[0] >= 500
        assert list(edge.proxy.troubles()) == ["shield-1"]


async def test_a_node_that_is_out_of_files_blames_no_parent(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(b"body")) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        assert (await edge.get("/grants"))[0] == 404  # so that the connection to the edge is there
        with out_of_files():
            status, _, body = await edge.get("/videos/AAAAAAAAAAA/x")
        assert (status, json.loads(body)["type"]) == (503, "urn:headwater:problem:parent_no_socket")
        assert edge.proxy.troubles() == {}
        site = Site("video", edge.snapshot.deployment.properties["video"])
        (shield, *_) = edge.proxy._role.parents("video/x", site, edge.snapshot)
        assert not edge.proxy._client.failed_of_late(shield)
        assert (await edge.get("/videos/AAAAAAAAAAA/x"))[0] == 200
