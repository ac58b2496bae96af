"""The steering node's HTTP door on real sockets: redirects by the viewer's address, and who is believed about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from dnssteer.contentsteering import ContentSteering
from dnssteer.door import serve_door
from dnssteer.redirects import Redirects
from headwater.rules.addresses import Address
from headwater.rules.names import bucket_of, parse_video_id
from headwater.rules.steering import steer
from headwater.settings.deployment import Deployment
from headwater.settings.listening import Tls
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of
from tests.support.certificates import authority
from tests.support.deployments import free_port

LOG = structlog.get_logger()
VIDEO = parse_video_id("dQw4w9WgXcQ")
GRANT = "A" * 60 + "." + "B" * 20


@dataclass
class Door:
    """A door whose snapshot the test may replace."""

    snapshot: Snapshot
    http: aiohttp.ClientSession
    url: str

    async def ask(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        return await self.http.get(f"{self.url}{path}", headers=headers, allow_redirects=False)

    def of_door(self, **changes: Any) -> None:
        dns = self.snapshot.deployment.dns
        assert dns.http is not None
        changed = dns.model_copy(update={"http": dns.http.model_copy(update=changes)})
        deployment = self.snapshot.deployment.model_copy(update={"dns": changed})
        self.snapshot = self.snapshot.model_copy(update={"deployment": deployment})


@pytest.fixture
async def door(deployment: Deployment) -> AsyncIterator[Door]:
    assert deployment.dns.http is not None
    async with aiohttp.ClientSession() as http:
        door = Door(Snapshot(version=1, deployment=deployment), http, deployment.dns.http.listen.url)
        async with serve_door(
            deployment.dns.http, [Redirects(lambda: door.snapshot), ContentSteering(lambda: door.snapshot)], LOG
        ):
            yield door


def port(door: Door) -> int:
    return door.snapshot.deployment.edge("fra-1").listen.port


async def test_a_viewer_is_sent_to_the_edge_that_steering_names_with_grant_and_query(door: Door) -> None:
    answer = await door.ask(f"/route/{GRANT}/videos/{VIDEO}/h264/720p/segment_00001.m4s?a=b%20c&grant=x")
    best = steer(bucket_of(VIDEO), "eu", world_of(door.snapshot))[0]
    assert answer.status == 302
    assert answer.headers["Location"] == (
        f"http://{best.address}/{GRANT}/videos/{VIDEO}/h264/720p/segment_00001.m4s?a=b%20c&grant=x"
    )
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_only_a_trusted_proxy_says_who_the_viewer_is(door: Door) -> None:
    stranger = await door.ask(f"/route/videos/{VIDEO}/master.m3u8", **{"X-Forwarded-For": "203.0.113.9"})
    assert stranger.headers["Location"].startswith(f"http://127.0.1.1:{port(door)}/")
    door.of_door(trusted=[ip_network("127.0.0.0/8")])
    trusted = await door.ask(f"/route/videos/{VIDEO}/master.m3u8", **{"X-Forwarded-For": "203.0.113.9"})
    assert trusted.headers["Location"].startswith(f"http://127.0.3.1:{port(door)}/")


async def test_a_new_snapshot_moves_viewers_at_once(door: Door) -> None:
    door.snapshot = door.snapshot.model_copy(update={"version": 2, "health": {"fra-1": "down"}})
    answer = await door.ask(f"/route/videos/{VIDEO}/master.m3u8")
    assert answer.headers["Location"].startswith(f"http://127.0.2.1:{port(door)}/")


@pytest.mark.parametrize(
    "path", ["/route/videos/", "/route/videos/short/master.m3u8", "/route/other", f"/route/x/videos/{VIDEO}/a"]
)
async def test_what_is_no_video_is_a_problem_that_says_what_was_expected(door: Door, path: str) -> None:
    answer = await door.ask(path)
    assert answer.status == 404
    assert "/route/videos/{id}/" in (await answer.json(content_type=None))["detail"]


async def test_over_tls_viewers_are_sent_to_tls_under_the_edges_own_name(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca")
    files = ca.issue("door", "127.0.0.1")
    tls = Tls(listen=Address("127.0.0.1", free_port()), certificates=[files])
    fra_1 = deployment.edge("fra-1").model_copy(
        update={"host": "fra-1.cdn.test", "tls": Tls(listen=Address("127.0.1.1", 8443), certificates=[files])}
    )
    fra = deployment.pops["fra"].model_copy(update={"edges": {"fra-1": fra_1}})
    snapshot = Snapshot(version=1, deployment=deployment.model_copy(update={"pops": {**deployment.pops, "fra": fra}}))
    assert deployment.dns.http is not None
    settings = deployment.dns.http.model_copy(update={"tls": tls})
    path = f"/route/videos/{VIDEO}/master.m3u8"
    async with serve_door(settings, [Redirects(lambda: snapshot)], LOG), aiohttp.ClientSession() as http:
        for url, location in (
            (f"https://{tls.listen}", "https://fra-1.cdn.test:8443"),
            (settings.listen.url, f"http://fra-1.cdn.test:{fra_1.listen.port}"),
        ):
            async with http.get(url + path, ssl=ca.client(), allow_redirects=False) as answer:
                assert answer.headers["Location"] == f"{location}/videos/{VIDEO}/master.m3u8"


async def priority(door: Door, query: str, **headers: str) -> list[str]:
    answer = await door.ask(f"/steering/videos/{VIDEO}/steering.json?{query}", **headers)
    assert (answer.status, answer.headers["Cache-Control"], answer.headers["Access-Control-Allow-Origin"]) == (
        200,
        "no-store",
        "*",
    )
    told: list[str] = (await answer.json())["PATHWAY-PRIORITY"]
    return told


async def test_a_steering_manifest_goes_by_what_an_earlier_one_told_the_player(door: Door) -> None:
    assert await priority(door, "from=fra-1&region=eu") == [".", "iad-1", "sin-1"]
    assert await priority(door, "from=fra-1&region=ap") == ["sin-1", ".", "iad-1"]
    assert await priority(door, "region=mars") == ["fra-1", "iad-1", "sin-1", "."], "a region that is none is not believed"
    assert await priority(door, "from=gone-9&region=us") == ["iad-1", "fra-1", "sin-1", "."]


async def test_a_viewer_whose_network_decides_nothing_stays_in_the_region_it_came_to(door: Door) -> None:
    assert (await priority(door, "from=iad-1"))[0] == "."
    door.of_door(trusted=[ip_network("127.0.0.0/8")])
    assert (await priority(door, "from=iad-1", **{"X-Forwarded-For": "203.0.113.9"}))[0] == "sin-1", "its network is of ap"


async def test_a_steering_manifest_of_no_video_is_a_problem(door: Door) -> None:
    assert (await door.ask("/steering/videos/short/steering.json")).status == 404
