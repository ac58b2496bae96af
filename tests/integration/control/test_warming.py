"""Objects go from one cache to another ahead of their viewers: real edges, one of two workers, before a site that counts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headwater.rules.names import bucket_of, video_id_from_bits
from headwater.runtime.nodetoken import NODE_HEADER, read_token
from headwater.settings.deployment import admin_address
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, ScriptedParent, header, scripted_parent

BODY = bytes(range(256)) * 400
VIDEOS = [video_id_from_bits(bytes([n]) * 8) for n in range(6)]
PATHS = [f"/videos/{video}/h264/360p/segment_{n:05d}.m4s" for video in VIDEOS for n in range(3)]


BIG = f"/videos/{VIDEOS[0]}/source.mp4"
BIG_BODY = bytes(range(251)) * 4000


async def site(asked: Asked, writer: asyncio.StreamWriter) -> None:
    if asked.line.split(" ")[1] == BIG:  # an origin that gives no parts; the shield does
        fields = ('ETag: "b"', "Cache-Control: max-age=3600", "Accept-Ranges: bytes", f"Content-Length: {len(BIG_BODY)}")
        writer.write(header("200 OK", *fields) + BIG_BODY)
        await writer.drain()
        return
    fields = ('ETag: "1"', "Cache-Control: max-age=3600", f"Content-Length: {len(BODY)}")
    writer.write(header("200 OK", *fields) + BODY)
    await writer.drain()


def unsigned_videos(url: str) -> Any:
    def change(content: JsonObject) -> None:
        content["properties"]["video"] |= {"signed": False, "parent": url}
        slices = {"above": "256 KiB", "size": "64 KiB", "ahead": 2}
        content["pops"]["fra"]["edges"]["fra-1"]["cache"] = {"slices": slices}
        # A disk for some of the objects only: the others are in the memory of one worker.
        content["pops"]["iad"]["edges"]["iad-1"] |= {"workers": 2, "cache": {"slices": slices, "disk": "1 MiB"}}

    return change


async def ordered(lab: Lab, node: str, path: str, body: object = None, token: str = "control") -> JsonObject:
    headers = {NODE_HEADER: read_token(lab.deployment.data, token), "Content-Type": "application/json"}
    url = f"{admin_address(lab.deployment, node).url}{path}"
    answer = await lab.http.request("GET" if body is None else "POST", url, headers=headers, content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    members: JsonObject = answer.json()
    return members


def parts(members: JsonObject, name: str) -> Any:
    return [part[name] for part in members["parts"]]


async def test_an_edge_fetches_from_the_one_that_loses_the_buckets_and_the_origin_hears_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with (
        scripted_parent(site) as origin,
        running_lab(
            tmp_path_factory.mktemp("node"), ("control", "shield-1", "fra-1", "iad-1"), unsigned_videos(origin.address.url)
        ) as lab,
    ):
        for path in PATHS:
            assert (await lab.http.get(f"{lab.edges['fra-1'].url}{path}")).content == BODY
        for _ in range(5):
            await lab.http.get(f"{lab.edges['fra-1'].url}{PATHS[7]}")
        asked_at_first = len(origin.asked)

        hottest = await ordered(lab, "fra-1", "/hottest", {})
        (objects,) = parts(hottest, "objects")
        assert objects[0] == [f"video{PATHS[7]}", len(BODY)]
        assert {key for key, _ in objects} == {f"video{path}" for path in PATHS}
        buckets = [f"{bucket_of(VIDEOS[0]):03x}"]
        (of_one,) = parts(await ordered(lab, "fra-1", "/hottest", {"buckets": buckets}), "objects")
        assert {key for key, _ in of_one} == {f"video{path}" for path in PATHS[:3]}
        (held,) = parts(await ordered(lab, "fra-1", "/holdings"), "buckets")
        assert held[buckets[0]] == [3, 3 * len(BODY)]

        order = {"objects": [{"key": key, "from": ["fra-1"]} for key, _ in objects]}
        reports = (await ordered(lab, "iad-1", "/warm", order))["parts"]
        assert len(reports) == 2
        assert all(report["fetched"] for report in reports)  # each worker its own share
        assert sum(report["fetched"] for report in reports) == len(PATHS)
        assert sum(report["by_parent"].get("fra-1", 0) for report in reports) == len(PATHS)
        assert sum(report["bytes"] for report in reports) == len(PATHS) * len(BODY)
        assert len(origin.asked) == asked_at_first
        assert await lab.metric("fra-1", "headwater_warm_source_total", outcome="given") == len(PATHS)
        for path in PATHS:
            answer = await lab.http.get(f"{lab.edges['iad-1'].url}{path}")
            assert answer.content == BODY
            assert "iad-1; hit" in answer.headers["Cache-Status"]
        assert len(origin.asked) == asked_at_first

        again = (await ordered(lab, "iad-1", "/warm", order))["parts"]
        assert sum(report["present"] for report in again) == len(PATHS)

        await whatever_a_worker_has_is_given(lab)
        await a_large_object_comes_slice_by_slice(lab, origin)
        await only_caches_get_objects_and_only_control_gives_orders(lab)
        await what_is_purged_does_not_come_back(lab, objects)
        await lab.kill("fra-1")
        order["objects"][0]["key"] = f"video{PATHS[0].replace('00000', '00009')}"
        reports = (await ordered(lab, "iad-1", "/warm", order))["parts"]
        assert sum(report["by_parent"].get("shield-1", 0) for report in reports) >= 1  # the source is away: the shield gives it
        refused = await ordered(lab, "iad-1", "/warm", {"objects": [{"key": "nothing/a"}]})
        assert sum(parts(refused, "failed")) == 1


async def whatever_a_worker_has_is_given(lab: Lab) -> None:
    headers = {"Headwater-Purges": "0", NODE_HEADER: read_token(lab.deployment.data, "fra-1")}
    admin = admin_address(lab.deployment, "iad-1").url
    for path in PATHS:
        answer = await lab.http.get(f"{admin}/stored/video{path}", headers=headers)
        assert (answer.status_code, answer.content) == (200, BODY)


async def a_large_object_comes_slice_by_slice(lab: Lab, origin: ScriptedParent) -> None:
    """What fra-1 holds of it comes from there, and nothing else is fetched."""
    key = f"video{BIG}"
    cut = {"Range": f"bytes=0-{7 * 65536 - 1}"}
    assert (await lab.http.get(f"{lab.edges['fra-1'].url}{BIG}", headers=cut)).content == BIG_BODY[: 7 * 65536]
    asked, order = len(origin.asked), {"objects": [{"key": key, "from": ["fra-1"]}]}
    reports = (await ordered(lab, "iad-1", "/warm", order))["parts"]
    assert sum(report["fetched"] for report in reports) == 1, reports
    assert sum(report["by_parent"].get("fra-1", 0) for report in reports) == 1
    assert len(origin.asked) == asked
    answer = await lab.http.get(f"{lab.edges['iad-1'].url}{BIG}", headers=cut)
    assert (answer.content, "iad-1; hit" in answer.headers["Cache-Status"]) == (BIG_BODY[: 7 * 65536], True)


async def what_is_purged_does_not_come_back(lab: Lab, objects: list[Any]) -> None:
    """fra-1 hears of a purge later than iad-1, and was asked for more than it knows once before: it gives nothing."""
    key = objects[0][0]
    record = {"sequence": 4_000_000_000, "kind": "object", "target": key, "soft": False, "at": 1.0}
    await ordered(lab, "iad-1", "/purge", {"after": 0, "records": [record]})
    reports = (await ordered(lab, "iad-1", "/warm", {"objects": [{"key": key, "from": ["fra-1"]}]}))["parts"]
    assert sum(report["by_parent"].get("fra-1", 0) for report in reports) == 0
    assert await lab.metric("fra-1", "headwater_warm_source_total", outcome="behind") == 2


async def only_caches_get_objects_and_only_control_gives_orders(lab: Lab) -> None:
    admin = admin_address(lab.deployment, "fra-1").url
    stored = f"{admin}/stored/video{PATHS[0]}"

    async def status(token: str | None, purges: str = "0") -> int:
        headers = {"Headwater-Purges": purges} | ({NODE_HEADER: read_token(lab.deployment.data, token)} if token else {})
        return (await lab.http.get(stored, headers=headers)).status_code

    held = await lab.metric("fra-1", "headwater_purge_sequence")
    assert [await status(None), await status("dns"), await status("iad-1"), await status("iad-1", "")] == [403, 403, 200, 504]
    assert await status("iad-1", str(int(held) + 1)) == 504
    for path in ("/warm", "/hottest"):
        headers = {NODE_HEADER: read_token(lab.deployment.data, "iad-1")}
        assert (await lab.http.post(admin + path, headers=headers, content="{}")).status_code == 403
    headers = {NODE_HEADER: read_token(lab.deployment.data, "control")}
    bad = ("", "[]", '{"objects": 3}', '{"objects": [{"key": "/x"}]}', '{"objects": [], "concurrency": 0}')
    for body in bad:
        answer = await lab.http.post(f"{admin}/warm", headers=headers, content=body)
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
