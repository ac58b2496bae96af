"""Enrolment with real processes: a node of two workers, orders through its parent process, caches that ask each other, kills."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import aiohttp
import pytest
import structlog

from headwater.runtime.enrolment.identity import FILE, Identity
from headwater.runtime.nodeprocess import log_files
from headwater.settings.deployment import admin_address
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent

NODES = ("control", "shield-1", "fra-1", "iad-1")


async def site(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(header("200 OK", 'ETag: "1"', "Cache-Control: max-age=3600", "Content-Length: 4") + b"body")
    await writer.drain()


async def ordered(lab: Lab, node: str, path: str, order: Any) -> tuple[int, JsonObject]:
    """A node's answer to an order of control's."""
    control = Identity(lab.deployment.data / "nodes" / "control" / FILE, structlog.get_logger())
    url = f"https://{admin_address(lab.deployment, node)}{path}"
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=order, ssl=control.client, server_hostname=node) as reply,
    ):
        return reply.status, await reply.json(content_type=None)


async def who_purged(lab: Lab) -> set[str]:
    """Who acknowledges a purge that an operator orders."""
    url = f"{lab.deployment.control.listen.url}/api/v1/purge"
    reply = await lab.http.post(url, json={"url": "http://www.shop.test/shop/a"}, headers=lab.operator)
    return {one["node"] for one in reply.json()["acknowledged"]}


async def command(lab: Lab, *arguments: str) -> tuple[int, str]:
    done = await asyncio.to_thread(lab.headwater, *arguments, "--config", str(lab.config))
    return done.returncode, done.stdout + done.stderr


async def test_orders_reach_enrolled_processes_and_caches_ask_each_other_by_certificate(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("node")  # a short path: the workers' sockets are in it
    async with scripted_parent(site) as parent:

        def with_shop(content: JsonObject) -> None:
            url = parent.address.url
            content["properties"]["shop"] = {"hosts": ["www.shop.test"], "paths": "/shop/", "signed": False, "parent": url}
            del content["pops"]["sin"], content["shields"]["shield-2"]
            content["steering"] = {"default_region": "eu"}
            content["pops"]["fra"]["edges"]["fra-1"]["workers"] = 2

        async with running_lab(folder, NODES, with_shop, enrolled=True) as lab:
            assert (await lab.http.get(f"{lab.edges['fra-1'].url}/shop/a")).text == "body"
            object_from_fra = {"objects": [{"key": "shop/shop/a", "from": ["fra-1"]}], "concurrency": 1, "bandwidth_bps": None}
            status, told = await ordered(lab, "iad-1", "/warm", object_from_fra)
            assert (status, [part["by_parent"] for part in told["parts"]]) == (200, [{"fra-1": 1}])

            assert await who_purged(lab) == {"shield-1", "fra-1", "iad-1"}
            plain = f"{admin_address(lab.deployment, 'fra-1').url}/purge"
            assert (await lab.http.post(plain, json={})).status_code == 403
            forged = {"Headwater-Peer": f"headwater://{lab.deployment.name}/control/control/1"}
            assert (await lab.http.post(plain, json={}, headers=forged)).status_code == 403
            status, text = await command(lab, "explain", "http://www.shop.test/shop/a")
            assert (status, "nowhere" in text) == (0, True), text

            # Killed, the node back before control; nobody needs a token again.
            await lab.kill("control", "iad-1")
            await lab.start("iad-1")
            await lab.start("control")
            assert await who_purged(lab) == {"shield-1", "fra-1", "iad-1"}

            # A revoked edge is served by nobody, and no viewer is sent to it.
            status, text = await command(lab, "enrol", "revoke", "iad-1")
            assert (status, "refused from now on" in text) == (0, True), text
            said = log_files(lab.deployment.data, "iad-1").service
            async with asyncio.timeout(30):
                while "certificate-revoked" not in said.read_text():  # noqa: ASYNC110 - another process's log
                    await asyncio.sleep(0.05)
                for number in itertools.count():
                    if (await lab.http.get(f"{lab.edges['iad-1'].url}/shop/{number}")).status_code != 200:
                        break
            status, text = await command(lab, "enrol", "list")
            assert (status, "revoked" in text) == (0, True), text
