"""Whole requests at one edge, over real sockets, before parents that do what a script says."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from headwater.runtime.metrics import value
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import running_edge, with_parents
from tests.support.scriptedparent import Asked, header, scripted_parent, serving

PATH = "/videos/abcdefghijA/h264/360p/segment_00000.m4s"
KEY = f"video{PATH}"
BODY = os.urandom(1_000_003)


async def test_a_miss_is_stored_and_the_next_request_hits(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY, "Content-Type: video/iso.segment")) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        status, fields, body = await edge.get(PATH)
        assert (status, body) == (200, BODY)
        assert fields["cache-status"] == "fra-1; fwd=uri-miss; fwd-status=200; stored"
        status, fields, body = await edge.get(PATH)
        assert (status, body) == (200, BODY)
        assert fields["cache-status"].startswith("fra-1; hit; ttl=")
        assert fields["content-type"] == "video/iso.segment"
        assert fields["access-control-allow-origin"] == "*"
        assert fields["via"] == "1.1 fra-1"
        assert len(parent.asked) == 1
        asked = parent.asked[0]
        assert asked.line == f"GET {PATH} HTTP/1.1"
        assert asked.fields["headwater-node"] == "token"
        assert asked.fields["cdn-loop"] == "fra-1"
        assert "range" not in asked.fields
    lines = [json.loads(line) for line in edge.log.getvalue().splitlines()]
    assert [line["outcome"] for line in lines] == ["miss", "hit"]
    assert all(line["sent_bytes"] == len(BODY) and line["path"] == PATH for line in lines)


async def test_a_viewer_is_told_once_who_may_read_also_when_the_shield_said_it_too(
    deployment: Deployment, tmp_path: Path
) -> None:
    parent_says = serving(BODY, "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: Age")
    async with (
        scripted_parent(parent_says) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        for _ in ("from the parent", "from the store"):
            async with edge.client.get(edge.url(PATH)) as response:
                assert response.headers.getall("Access-Control-Allow-Origin") == ["*"]
                (exposed,) = response.headers.getall("Access-Control-Expose-Headers")
                assert "Cache-Status" in exposed
            await edge.settled()


async def test_the_store_is_warm_after_a_restart(deployment: Deployment, tmp_path: Path) -> None:
    async with scripted_parent(serving(BODY)) as parent:
        snapshot = with_parents(deployment, [parent.address])
        async with running_edge(snapshot, tmp_path) as edge:
            await edge.get(PATH)
            await edge.settled()
        async with running_edge(snapshot, tmp_path) as edge:
            _, fields, body = await edge.get(PATH)
        assert body == BODY
        assert "hit" in fields["cache-status"]
        assert len(parent.asked) == 1


async def test_a_stale_object_is_confirmed_by_its_validator(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY, "Age: 100")) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        await edge.get(PATH)
        await edge.settled()
        parent.script = serving(BODY, "Age: 0")
        _, fields, body = await edge.get(PATH)
        assert body == BODY
        assert parent.asked[1].fields["if-none-match"] == '"v1"'
        assert fields["cache-status"].startswith("fra-1; fwd=stale; fwd-status=304; ttl=")
        assert "hit" in (await edge.get(PATH))[1]["cache-status"]
        assert len(parent.asked) == 2


async def test_a_confirmation_without_a_date_makes_an_old_object_fresh_again(deployment: Deployment, tmp_path: Path) -> None:
    """Kept under its first Date, it would be asked for at every request from its first lifetime's end on."""
    async with (
        scripted_parent(serving(BODY, "Date: Mon, 01 Jan 2024 00:00:00 GMT")) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        await edge.get(PATH)
        await edge.settled()
        parent.script = serving(BODY)
        assert "fwd-status=304" in (await edge.get(PATH))[1]["cache-status"]
        for _ in range(3):
            assert "hit" in (await edge.get(PATH))[1]["cache-status"]
        assert len(parent.asked) == 2


async def test_an_object_that_arrives_stale_is_served_after_each_confirmation(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY, "Age: 100")) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        for _ in range(3):
            status, _, body = await edge.get(PATH)
            assert (status, body) == (200, BODY)
            await edge.settled()
        assert ["if-none-match" in asked.fields for asked in parent.asked] == [False, True, True]


async def test_stale_while_revalidate_serves_now_and_asks_meanwhile(deployment: Deployment, tmp_path: Path) -> None:
    def answering(age: int, body: bytes, etag: str) -> object:
        async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
            lines = ("Cache-Control: max-age=2, stale-while-revalidate=100", f"Age: {age}", f"ETag: {etag}")
            writer.write(header("200 OK", *lines, f"Content-Length: {len(body)}") + body)

        return script

    async with (
        scripted_parent(answering(10, b"old", '"1"')) as parent,  # type: ignore[arg-type]
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        await edge.get(PATH)
        await edge.settled()
        parent.script = answering(0, b"new", '"2"')  # type: ignore[assignment]
        assert (await edge.get(PATH))[2] == b"old"
        await edge.settled()
        assert (await edge.get(PATH))[2] == b"new"
        assert len(parent.asked) == 2


async def test_a_stale_manifest_stands_in_while_no_parent_answers(deployment: Deployment, tmp_path: Path) -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        lines = ("Cache-Control: max-age=2, stale-if-error=1000", "Age: 10", 'ETag: "1"', "Content-Length: 3")
        writer.write(header("200 OK", *lines) + b"old")

    async with (
        scripted_parent(script) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        await edge.get(PATH)
        await edge.settled()
        await parent.close()
        status, fields, body = await edge.get(PATH)
        assert (status, body) == (200, b"old")
        assert "ttl=-" in fields["cache-status"]


async def test_a_404_is_remembered_for_a_moment(deployment: Deployment, tmp_path: Path) -> None:
    async def missing(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("404 Not Found", "Content-Length: 2", "Cache-Control: max-age=30") + b"no")

    async with (
        scripted_parent(missing) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        assert [(await edge.get(PATH))[0] for _ in range(3)] == [404, 404, 404]
        assert len(parent.asked) == 1


async def test_ranges_and_conditionals_of_a_stored_object(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        await edge.get(PATH)
        status, fields, body = await edge.get(PATH, Range="bytes=10-19")
        assert (status, body, fields["content-range"]) == (206, BODY[10:20], f"bytes 10-19/{len(BODY)}")
        status, fields, body = await edge.get(PATH, Range="bytes=-5")
        assert (status, body) == (206, BODY[-5:])
        status, fields, body = await edge.get(PATH, Range=f"bytes={len(BODY)}-")
        assert (status, body, fields["content-range"]) == (416, b"", f"bytes */{len(BODY)}")
        status, fields, body = await edge.get(PATH, Range="bytes=0-1,10-11")
        assert status == 206
        assert fields["content-type"].startswith("multipart/byteranges")
        assert BODY[10:12] in body
        assert int(fields["content-length"]) == len(body)
        status, fields, body = await edge.get(PATH, If_None_Match='"v1"')
        assert (status, body) == (304, b"")
        status, fields, body = await edge.get(PATH, Range="bytes=0-1", If_Range='"old"')
        assert (status, body) == (200, BODY)
        async with edge.client.head(edge.url(PATH)) as response:
            assert response.status == 200
            assert int(response.headers["content-length"]) == len(BODY)
        assert len(parent.asked) == 1


async def test_a_large_object_goes_through_a_file_and_is_served_from_disk(deployment: Deployment, tmp_path: Path) -> None:
    settings = CacheSettings.model_validate({"ram": "4 MiB", "spool_in_ram": "512 KiB"})
    body = os.urandom(5_000_000)
    async with (
        scripted_parent(serving(body)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings) as edge,
    ):
        answers = await asyncio.gather(edge.get(PATH), edge.get(PATH, Range="bytes=4000000-4000099"))
        assert answers[0][2] == body
        assert answers[1][2] == body[4000000:4000100]
        await edge.settled()
        status, fields, again = await edge.get(PATH, Range="bytes=1000000-2100000")
        assert (status, again) == (206, body[1000000:2100001])
        assert "hit" in fields["cache-status"]
        assert (await edge.get(PATH))[2] == body
        assert len(parent.asked) == 1


async def test_a_damaged_file_is_fetched_again(deployment: Deployment, tmp_path: Path) -> None:
    async with scripted_parent(serving(BODY)) as parent:
        snapshot = with_parents(deployment, [parent.address])
        async with running_edge(snapshot, tmp_path) as edge:
            await edge.get(PATH)
            await edge.settled()
        (file,) = [path for path in (tmp_path / "store" / "objects").rglob("*") if path.is_file()]
        damaged = bytearray(file.read_bytes())
        damaged[500_000] ^= 1
        file.write_bytes(damaged)
        before = value("headwater_store_disk_troubles_total", trouble="damaged")
        async with running_edge(snapshot, tmp_path) as edge:
            assert (await edge.get(PATH))[2] == BODY
        assert value("headwater_store_disk_troubles_total", trouble="damaged") == before + 1
        assert len(parent.asked) == 2


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/videos/a/../b/x", 400, "target_dot_segment"),
        ("/videos/%2e%2e/x", 400, "target_dot_segment"),
        ("/videos/a%2fb", 400, "target_bad_escape"),
        ("/videos/a%00b", 400, "target_bad_escape"),
        ("/videos//x", 400, "target_empty_segment"),
        ("/videos/" + "a" * 5000, 414, "target_too_long"),
        ("/other", 404, "path_unknown"),
    ],
)
async def test_odd_targets_are_refused_by_name(
    deployment: Deployment, tmp_path: Path, path: str, status: int, reason: str
) -> None:
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: v000.cdn.test\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode("latin-1")
        writer.close()
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert f"urn:headwater:problem:{reason}" in answer
        assert parent.asked == []


async def test_a_request_that_comes_back_is_a_loop(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        status, _, _ = await edge.get(PATH, CDN_Loop="other; x=1, fra-1")
        assert status == 508
        assert parent.asked == []


async def test_a_head_of_a_cold_object_fills_it_for_the_next_get(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        async with edge.client.head(edge.url(PATH)) as response:
            assert (response.status, response.content_length) == (200, len(BODY))
        await edge.settled()
        assert "hit" in (await edge.get(PATH))[1]["cache-status"]
        assert [asked.line.split()[0] for asked in parent.asked] == ["GET"]
