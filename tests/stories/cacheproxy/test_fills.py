"""Fills at one edge, over real sockets: many who ask for one object, and parents that die, stall or change their minds."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import aiohttp
import pytest

from headwater.cacheproxy.fills.fills import Fill
from headwater.cacheproxy.store.spool import SpoolBroken
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import running_edge, with_parents
from tests.support.scriptedparent import Asked, dying, header, scripted_parent, serving
from tests.support.waiting import until

PATH = "/videos/abcdefghijA/h264/360p/segment_00000.m4s"
KEY = f"video{PATH}"
BODY = os.urandom(1_000_003)


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


async def test_an_answer_that_became_stale_while_it_arrives_takes_no_newcomers(deployment: Deployment, tmp_path: Path) -> None:
    rest = asyncio.Event()

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        number = len(parent.asked)
        writer.write(header("200 OK", "Cache-Control: max-age=2", "Content-Length: 2") + str(number).encode())
        if number == 1:
            await rest.wait()
        writer.write(str(number).encode())
        await writer.drain()

    async with scripted_parent(script) as parent, running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge:
        asking = [asyncio.create_task(edge.get(PATH))]
        await until(lambda: edge.followers(KEY) == 1)
        asking.append(asyncio.create_task(edge.get(PATH)))
        await until(lambda: edge.followers(KEY) == 2)
        await asyncio.sleep(2.1)
        assert (await asyncio.wait_for(edge.get(PATH), 5))[2] == b"22"
        rest.set()
        assert [(await one)[2] for one in asking] == [b"11", b"11"]
        assert len(parent.asked) == 2


async def test_a_head_gets_its_answer_though_the_get_beside_it_leaves(deployment: Deployment, tmp_path: Path) -> None:
    answers, whole = asyncio.Event(), serving(BODY)

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await answers.wait()
        await whole(asked, writer)

    async with scripted_parent(script) as parent, running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge:
        head = asyncio.create_task(edge.client.head(edge.url(PATH)))
        await until(lambda: len(parent.asked) == 1)
        before = edge.followers(KEY) or 0
        get = asyncio.create_task(edge.get(PATH))
        await until(lambda: edge.followers(KEY) == before + 1)
        get.cancel()
        await until(lambda: edge.followers(KEY) in (before, None))
        answers.set()
        async with await head as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(len(BODY)))
        await edge.settled()
        assert (await edge.get(PATH))[2] == BODY
        assert len(parent.asked) == 1


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"max_object": "100 kB"}, f"Content-Length: {len(BODY)}"),
        ({"ram": "0 B", "disk": "0 B"}, f"Content-Length: {len(BODY)}"),
        ({}, "Connection: close"),  # an end that is none but the connection's
    ],
)
async def test_what_will_not_be_stored_is_not_called_stored(
    deployment: Deployment, tmp_path: Path, settings: dict[str, str], length: str
) -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", "Cache-Control: max-age=60", length) + BODY)
        await writer.drain()
        writer.close()

    cache = CacheSettings.model_validate(settings)
    async with (
        scripted_parent(script) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, cache) as edge,
    ):
        for _ in range(2):
            _, fields, body = await edge.get(PATH)
            assert (body, fields["cache-status"]) == (BODY, "fra-1; fwd=uri-miss; fwd-status=200")
            await edge.settled()


async def test_an_answer_that_may_not_be_stored_takes_nobodys_place(deployment: Deployment, tmp_path: Path) -> None:
    large = os.urandom(8_000_000)

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        private = "segment_00000" not in asked.line
        body, control = (large, "no-store") if private else (BODY, "max-age=60")
        writer.write(header("200 OK", f"Cache-Control: {control}", f"Content-Length: {len(body)}") + body)
        await writer.drain()

    cache = CacheSettings.model_validate({"ram": "1 MiB", "disk": "8 MiB"})
    async with (
        scripted_parent(script) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, cache) as edge,
    ):
        await edge.get(PATH)
        await edge.settled()
        for number in range(1, 4):
            assert (await edge.get(PATH.replace("00000", f"{number:05}")))[2] == large
            await edge.settled()
        assert (await edge.get(PATH))[1]["cache-status"].startswith("fra-1; hit")


async def test_a_client_that_has_the_object_already_leaves_its_fill_to_whoever_asks_next(
    deployment: Deployment, tmp_path: Path
) -> None:
    rest = asyncio.Event()

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        fields = ('ETag: "v1"', "Cache-Control: max-age=60", f"Content-Length: {len(BODY)}")
        writer.write(header("200 OK", *fields) + BODY[:10])
        await rest.wait()
        writer.write(BODY[10:])
        await writer.drain()

    async with scripted_parent(script) as parent, running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge:
        assert (await edge.get(PATH, If_None_Match='"v1"'))[0] == 304
        rest.set()
        await edge.settled()
        assert (await edge.get(PATH))[2] == BODY
        assert len(parent.asked) == 1


async def test_parts_in_any_order_of_a_body_that_passes_through_are_no_trouble(deployment: Deployment, tmp_path: Path) -> None:
    cache = CacheSettings.model_validate({"max_object": "100 kB"})
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, cache) as edge,
    ):
        status, _, body = await edge.get(PATH, Range="bytes=0-9,900000-900009")
        assert (status, BODY[:10] in body, BODY[900_000:900_010] in body) == (206, True, True)
        await edge.settled()
        status, _, body = await edge.get(PATH, Range="bytes=900000-900009,0-9")
        assert (status, body) == (200, BODY)


async def test_nobody_joins_a_fill_that_has_just_ended_and_given_its_file_back(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[str] = []
    run = Fill.run

    async def run_and_be_looked_for(fill: Fill) -> None:
        """The moment between the end of the fill and that of its task."""
        await run(fill)
        found = edge.proxy.fills.running(fill.order.key)
        try:
            if found is not None:
                async for _ in found.spool.read(0, None):
                    pass
        except SpoolBroken:
            broken.append(fill.order.key)

    monkeypatch.setattr(Fill, "run", run_and_be_looked_for)
    settings = CacheSettings.model_validate({"spool_in_ram": "64 KiB"})
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path, settings) as edge,
    ):
        assert (await edge.get(PATH))[2] == BODY
        await edge.settled()
        assert broken == []
