"""Purges through real processes: control, shields and edges before a site that changes its mind."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import structlog

from control.caches.purgelog import PurgeLog
from headwater.rules.purging import PurgeKind
from headwater.runtime.nodetoken import NODE_HEADER, read_token
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent

NODES = ("control", "shield-1", "shield-2", "fra-1", "iad-1")
MEANWHILE = 1200
LIVES = {"iad-1", "fra-1", "shield-1", "shield-2"}


class ChangingSite:
    """Answers every path with its present version, fresh for an hour."""

    def __init__(self) -> None:
        self.version = 1

    async def script(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        etag = f'"{self.version}"'
        fields = (f"ETag: {etag}", "Cache-Control: max-age=3600", "Cache-Tag: shop, news")
        if asked.fields.get("if-none-match") == etag:
            writer.write(header("304 Not Modified", *fields))
        else:
            body = str(self.version).encode()
            writer.write(header("200 OK", *fields, f"Content-Length: {len(body)}") + body)
        await writer.drain()


async def seen(lab: Lab, path: str, *edges: str) -> list[int]:
    """The versions that these edges serve."""
    answers = [await lab.http.get(f"{lab.edges[edge].url}{path}") for edge in edges or ("fra-1", "iad-1")]
    return [int(answer.text) for answer in answers]


async def purge(lab: Lab, *arguments: str) -> tuple[int, JsonObject]:
    done = await asyncio.to_thread(lab.headwater, "purge", "--config", str(lab.config), "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def named(members: list[JsonObject]) -> set[str]:
    return {member["node"] for member in members}


async def test_a_purge_reaches_every_cache_also_those_that_were_away_or_are_killed_right_after(tmp_path: Path) -> None:
    site = ChangingSite()
    async with scripted_parent(site.script) as parent:

        def with_shop(content: JsonObject) -> None:
            content["properties"]["shop"] = {
                "hosts": ["www.shop.test"],
                "paths": "/shop/",
                "signed": False,
                "parent": parent.address.url,
            }
            del content["pops"]["sin"]
            content["steering"] = {"default_region": "eu"}

        async with running_lab(tmp_path, NODES, with_shop) as lab:
            assert await seen(lab, "/shop/a") == [1, 1]
            ways = (
                ["http://www.shop.test/shop/a"],
                ["--prefix", "http://www.shop.test/shop/"],
                ["--prefix", "/shop"],
                ["--tag", "news"],
                ["--tag", "shop", "--soft"],
            )
            for version, way in enumerate(ways, 2):
                site.version = version
                assert await seen(lab, "/shop/a") == [version - 1] * 2
                status, answer = await purge(lab, *way)
                assert (status, answer["missing"], named(answer["acknowledged"])) == (0, [], LIVES)
                assert await seen(lab, "/shop/a") == [version] * 2

            await the_object_is_explained(lab, parent.address.url)

            # Killed right after it acknowledged.
            site.version = 10
            await purge(lab, "--tag", "news")
            await lab.kill("fra-1", "shield-1", "shield-2")
            await lab.start("shield-1", "shield-2", "fra-1")
            assert await seen(lab, "/shop/a") == [10, 10]

            # Away while others purge: missing, and it replays before it serves again.
            site.version = 11
            await lab.kill("fra-1")
            for status, _ in await asyncio.gather(*(purge(lab, "--prefix", f"/shop/{name}") for name in ("one", "two"))):
                assert status == 1
            status, answer = await purge(lab, "http://www.shop.test/shop/a")
            assert (status, named(answer["missing"])) == (1, {"fra-1"})
            assert await seen(lab, "/shop/a", "iad-1") == [11]
            await lab.start("fra-1")
            assert await seen(lab, "/shop/a", "fra-1") == [11]
            assert await lab.metric("fra-1", "headwater_purge_sequence") == answer["sequence"]

            # More were ordered while nobody could hear of them than one message holds; control's log outlives control.
            site.version = 12
            later = await many_purges_meanwhile(lab)
            assert later["sequence"] > answer["sequence"] + MEANWHILE
            assert await seen(lab, "/shop/a") == [12, 12]

            done = await asyncio.to_thread(lab.headwater, "purge", "--config", str(lab.config), "http://elsewhere.test/")
            assert done.returncode == 2
            assert "elsewhere.test" in done.stderr
            await only_control_may_purge(lab)


async def the_object_is_explained(lab: Lab, site_url: str) -> None:
    arguments = ("explain", "--config", str(lab.config), "http://www.shop.test/shop/a")
    done = await asyncio.to_thread(lab.headwater, *arguments, "--json")
    told = json.loads(done.stdout)
    assert (told["property"], told["key"], told["steering"]["by"]) == ("shop", "shop/shop/a", "control")
    fra, iad, shield, origin = told["nodes"]
    assert {fra["node"], iad["node"]} == {"fra-1", "iad-1"}
    assert {node["place"] for node in (fra, iad, shield)} == {"ram"}
    assert (shield["node"], shield["tier"]) == (fra["parents"][0]["name"], "shield")
    assert (shield["parents"][0]["url"], origin["node"]) == (site_url, site_url)
    assert origin["stored"]["status"] == 200
    table = (await asyncio.to_thread(lab.headwater, *arguments)).stdout
    assert f"fra-1 asks {shield['node']}: {shield['node']} ranks first for this key among 2" in table


async def many_purges_meanwhile(lab: Lab) -> JsonObject:
    """A node whose log is behind by so many records gets them all with the next purge, whose answer this is."""
    await lab.kill("control")
    log = PurgeLog(lab.deployment.data / "nodes" / "control", structlog.get_logger().bind())
    log.start()
    log.append([(PurgeKind.TAG, f"tag-{number}") for number in range(MEANWHILE)], soft=False)
    await lab.start("control")
    status, answer = await purge(lab, "http://www.shop.test/shop/a")
    assert (status, named(answer["acknowledged"])) == (0, LIVES)
    return answer


async def only_control_may_purge(lab: Lab) -> None:
    data = lab.deployment.data
    control = f"{lab.deployment.control.listen.url}/api/v1/purge"
    urls = [f"{admin.url}/purge" for admin in (lab.deployment.shields["shield-1"].admin, lab.deployment.edge("fra-1").admin)]
    for token in (None, "guess", read_token(data, "fra-1")):
        headers = {NODE_HEADER: token} if token else {}
        for url in (control, *urls):
            answer: httpx.Response = await lab.http.post(url, json={"tag": "shop"}, headers=headers)
            assert answer.status_code == (401 if url == control else 403), url
