"""Whole requests at one edge, over real sockets, before parents that do what a script says."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import aiohttp
import pytest

from headwater.runtime.metrics import value
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import running_edge, with_parents
from tests.support.scriptedparent import Asked, dying, header, scripted_parent, serving
from tests.support.waiting import until

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


@pytest.mark.parametrize("after", [1, 500_000, len(BODY) - 1])
async def test_a_fill_that_dies_goes_on_at_the_next_parent_and_nobody_notices(
    deployment: Deployment, tmp_path: Path, after: int
) -> None:
    async with scripted_parent(dying(BODY, after)) as one, scripted_parent(dying(BODY, after)) as other:
        async with running_edge(with_parents(deployment, [one.address, other.address]), tmp_path) as edge:
            first, second = (one, other) if edge.parents_in_order(KEY)[0] == "shield-1" else (other, one)
            second.script = serving(BODY)
            answers = await asyncio.gather(*(edge.get(PATH) for _ in range(20)))
        assert all(body == BODY for _, _, body in answers)
        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert second.asked[0].fields["range"] == f"bytes={after}-"
        assert second.asked[0].fields["if-range"] == '"v1"'


async def test_when_no_parent_can_resume_clients_are_cut_off_and_nothing_is_stored(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with scripted_parent(dying(BODY, 400_000)) as parent:
        async with running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge:
            parent.script = dying(BODY, 300_000)
            with pytest.raises(aiohttp.ClientPayloadError):
                await edge.get(PATH)
            parent.script = serving(BODY)
            _, fields, body = await edge.get(PATH)
        assert body == BODY
        assert "fwd=uri-miss" in fields["cache-status"]


async def test_bytes_of_two_versions_are_never_mixed(deployment: Deployment, tmp_path: Path) -> None:
    async with scripted_parent(dying(BODY, 400_000)) as parent:

        async def changed_meanwhile(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await (serving(BODY[::-1], etag='"v2"') if len(parent.asked) > 1 else dying(BODY, 400_000))(asked, writer)

        parent.script = changed_meanwhile
        async with running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge:
            with pytest.raises(aiohttp.ClientPayloadError):
                await edge.get(PATH)
            assert (await edge.get(PATH))[2] == BODY[::-1]


async def test_a_body_that_does_not_fit_its_digest_is_never_sent_whole(deployment: Deployment, tmp_path: Path) -> None:
    wrong = "Repr-Digest: sha-256=:" + "A" * 43 + "=:"
    async with (
        scripted_parent(serving(BODY, wrong)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await edge.get(PATH)
        with pytest.raises(aiohttp.ClientPayloadError):
            await edge.get(PATH)
        assert len(parent.asked) == 2


async def test_500_clients_of_a_cold_object_make_one_request(deployment: Deployment, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await serving(BODY[:200_000])(asked, writer)

    async with (
        scripted_parent(held) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        clients = [asyncio.create_task(edge.get(PATH)) for _ in range(500)]
        await until(lambda: edge.followers(KEY) == 500)
        release.set()
        answers = await asyncio.gather(*clients)
        assert {body for _, _, body in answers} == {BODY[:200_000]}
        assert len(parent.asked) == 1
        outcomes = sorted("collapsed" in fields["cache-status"] for _, fields, _ in answers)
        assert outcomes == [False] + [True] * 499


async def test_followers_receive_bytes_as_they_arrive(deployment: Deployment, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def in_halves(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", 'ETag: "v1"', "Cache-Control: max-age=60", "Content-Length: 2000") + b"a" * 1000)
        await go_on.wait()
        writer.write(b"b" * 1000)

    async with (
        scripted_parent(in_halves) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        async with edge.client.get(edge.url(PATH)) as leader, edge.client.get(edge.url(PATH)) as follower:
            assert await leader.content.readexactly(1000) == b"a" * 1000
            assert await follower.content.readexactly(1000) == b"a" * 1000
            async with edge.client.get(edge.url(PATH), headers={"Range": "bytes=500-1499"}) as ranged:
                assert ranged.status == 206
                assert await ranged.content.readexactly(500) == b"a" * 500
                go_on.set()
                assert await ranged.read() == b"b" * 500
            assert await follower.read() == b"b" * 1000
        assert len(parent.asked) == 1


async def test_the_leader_may_leave_and_the_follower_gets_everything(deployment: Deployment, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def in_halves(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", 'ETag: "v1"', "Cache-Control: max-age=60", "Content-Length: 2000") + b"a" * 100)
        await go_on.wait()
        writer.write(b"a" * 1900)

    async with (
        scripted_parent(in_halves) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        leader = await edge.client.get(edge.url(PATH))
        async with edge.client.get(edge.url(PATH)) as follower:
            leader.close()
            await until(lambda: edge.followers(KEY) == 1)
            go_on.set()
            assert await follower.read() == b"a" * 2000
        assert len(parent.asked) == 1


async def test_a_fill_that_nobody_follows_is_cancelled_while_little_is_in(deployment: Deployment, tmp_path: Path) -> None:
    async def stuck(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", 'ETag: "v1"', "Cache-Control: max-age=60", "Content-Length: 2000") + b"a" * 100)
        await asyncio.Event().wait()

    async with (
        scripted_parent(stuck) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        leader = await edge.client.get(edge.url(PATH))
        fill = edge.proxy.fills.running(KEY)
        assert fill is not None
        assert fill.task is not None
        leader.close()
        await asyncio.wait([fill.task])
        parent.script = serving(b"b" * 10)
        assert (await edge.get(PATH))[2] == b"b" * 10


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


async def test_no_parent_is_a_gateway_error_that_is_not_cached(deployment: Deployment, tmp_path: Path) -> None:
    async with scripted_parent(serving(BODY)) as parent:
        await parent.close()
        async with running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge:
            status, fields, body = await edge.get(PATH)
            assert status == 502
            assert json.loads(body)["type"] == "urn:headwater:problem:parent_connect_failed"
            assert fields["cache-control"] == "no-store"
            await parent.open()
            assert (await edge.get(PATH))[2] == BODY


async def test_a_parent_that_stalls_is_left_for_the_next(deployment: Deployment, tmp_path: Path) -> None:
    async def stalls(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", 'ETag: "v1"', "Cache-Control: max-age=60", f"Content-Length: {len(BODY)}") + BODY[:1000])
        await asyncio.Event().wait()

    settings = CacheSettings.model_validate({"stall_timeout": "200 ms"})
    async with (
        scripted_parent(stalls) as one,
        scripted_parent(stalls) as other,
        running_edge(with_parents(deployment, [one.address, other.address]), tmp_path, settings) as edge,
    ):
        (one if edge.parents_in_order(KEY)[1] == "shield-1" else other).script = serving(BODY)
        assert (await edge.get(PATH))[2] == BODY


async def test_a_follower_goes_alone_when_the_leaders_response_is_not_storable(deployment: Deployment, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def private(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        body = str(len(parent.asked)).encode()
        writer.write(header("200 OK", "Cache-Control: private", f"Content-Length: {len(body)}") + body)

    async with (
        scripted_parent(private) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        clients = [asyncio.create_task(edge.get(PATH)) for _ in range(5)]
        await until(lambda: edge.followers(KEY) == 5)
        release.set()
        await asyncio.gather(*clients)
        assert len(parent.asked) == 5


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
