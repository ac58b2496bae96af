"""An ordinary, unsigned site behind an edge: RFC 9111 between a client and somebody else's server, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Property
from tests.support.proxies import RunningEdge, running_edge
from tests.support.scriptedparent import Asked, Script, ScriptedParent, header, scripted_parent
from tests.support.waiting import until


@asynccontextmanager
async def site(deployment: Deployment, folder: Path, script: Script) -> AsyncIterator[tuple[ScriptedParent, RunningEdge]]:
    async with scripted_parent(script) as parent:
        settings = Property(hosts=["www.test"], signed=False, parent=parent.address.url, shielded=False, cors=False)
        snapshot = Snapshot(version=1, deployment=deployment.model_copy(update={"properties": {"site": settings}}))
        async with running_edge(snapshot, folder) as edge:
            yield parent, edge


def answering(*lines: str, status: str = "200 OK", echo: str | None = None) -> Script:
    """Answers with a body that numbers the requests, or echoes a request field."""
    count = 0

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        body = (asked.fields.get(echo, "-") if echo else str(count)).encode()
        length = () if status.startswith("204") else (f"Content-Length: {len(body)}",)
        writer.write(header(status, *lines, *length) + (b"" if status.startswith("204") else body))
        await writer.drain()

    return script


async def test_variants_are_kept_apart_by_what_vary_names(deployment: Deployment, tmp_path: Path) -> None:
    script = answering("Cache-Control: max-age=60", "Vary: X-Kind", echo="x-kind")
    async with site(deployment, tmp_path, script) as (parent, edge):
        for _ in range(2):
            assert (await edge.get("/a", X_Kind="one"))[2] == b"one"
            assert (await edge.get("/a", X_Kind="two"))[2] == b"two"
            assert (await edge.get("/a"))[2] == b"-"
            await edge.settled()
        assert len(parent.asked) == 3


async def test_followers_of_another_variant_go_alone(deployment: Deployment, tmp_path: Path) -> None:
    release = asyncio.Event()
    inner = answering("Cache-Control: max-age=60", "Vary: X-Kind", echo="x-kind")

    async def held(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await inner(asked, writer)

    async with site(deployment, tmp_path, held) as (_, edge):
        clients = [asyncio.create_task(edge.get("/a", X_Kind=kind)) for kind in ("one", "two", "one")]
        await asyncio.sleep(0)
        release.set()
        assert [body for _, _, body in await asyncio.gather(*clients)] == [b"one", b"two", b"one"]


async def test_variants_have_a_cap(deployment: Deployment, tmp_path: Path) -> None:
    script = answering("Cache-Control: max-age=60", "Vary: X-Kind", echo="x-kind")
    async with site(deployment, tmp_path, script) as (parent, edge):
        for number in range(40):
            await edge.get("/a", X_Kind=str(number))
            await edge.settled()
        asked = len(parent.asked)
        assert (await edge.get("/a", X_Kind="39"))[2] == b"39"  # the newest are there
        assert len(parent.asked) == asked
        await edge.get("/a", X_Kind="0")  # those from before the cap are not
        assert len(parent.asked) == asked + 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
async def test_an_unsafe_method_passes_with_its_body_and_invalidates(deployment: Deployment, tmp_path: Path, method: str) -> None:
    bodies: list[str] = []
    get = answering("Cache-Control: max-age=60")

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.line.startswith("GET"):
            await get(asked, writer)
        else:
            bodies.append(asked.line)
            writer.write(header("201 Created", "Content-Length: 2", "Location: /b", "Connection: close") + b"ok")
            await writer.drain()
            writer.close()

    async with site(deployment, tmp_path, script) as (parent, edge):
        first, other = await edge.get("/a"), await edge.get("/b")
        await edge.settled()
        async with edge.client.request(method, edge.url("/a"), data=b"sent") as response:
            assert (response.status, await response.read()) == (201, b"ok")
        assert bodies == [f"{method} /a HTTP/1.1"]
        assert (await edge.get("/a"))[2] != first[2]
        assert (await edge.get("/b"))[2] != other[2]
        assert len(parent.asked) == 5


async def test_a_failed_write_invalidates_nothing(deployment: Deployment, tmp_path: Path) -> None:
    get = answering("Cache-Control: max-age=60")

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.line.startswith("GET"):
            await get(asked, writer)
        else:
            writer.write(header("500 No", "Content-Length: 0"))

    async with site(deployment, tmp_path, script) as (_, edge):
        before = await edge.get("/a")
        await edge.settled()
        async with edge.client.post(edge.url("/a")) as response:
            assert response.status == 500
        assert (await edge.get("/a"))[2] == before[2]


async def test_client_fields_pass_but_ours_stay_inside(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path, answering("Cache-Control: no-store")) as (parent, edge):
        await edge.get("/a?q=1", X_Mine="1", Connection="X-Drop", X_Drop="1", Headwater_Node="stolen", CDN_Loop="other")
        asked = parent.asked[0]
        assert asked.line == "GET /a?q=1 HTTP/1.1"
        assert asked.fields["x-mine"] == "1"
        assert asked.fields["cdn-loop"] == "other, fra-1"
        assert asked.fields["host"] == str(parent.address)
        assert "x-drop" not in asked.fields
        assert "headwater-node" not in asked.fields


async def test_private_and_authorized_answers_are_not_shared(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path, answering("Cache-Control: max-age=60")) as (parent, edge):
        await edge.get("/a", Authorization="Basic x")
        await edge.settled()
        await edge.get("/a", Authorization="Basic y")
        assert len(parent.asked) == 2


async def test_no_cache_of_a_client_asks_again(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path, answering("Cache-Control: max-age=60")) as (parent, edge):
        for control in ("max-age=100", "no-cache", "max-age=0"):
            await edge.get("/a", Cache_Control=control)
            await edge.settled()
        assert len(parent.asked) == 3
        assert (await edge.get("/a", Cache_Control="only-if-cached"))[0] == 200
        assert (await edge.get("/b", Cache_Control="only-if-cached"))[0] == 504


async def test_an_upstreams_error_is_its_answer_and_asked_for_once(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path, answering(status="503 Busy")) as (parent, edge):
        status, _, body = await edge.get("/a")
        assert (status, body) == (503, b"1")
        assert len(parent.asked) == 1


async def test_early_hints_reach_the_client_before_the_answer(deployment: Deployment, tmp_path: Path) -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("103 Early Hints", "Link: </a.css>; rel=preload"))
        writer.write(header("200 OK", "Content-Length: 2", "Cache-Control: max-age=60") + b"ok")

    async with site(deployment, tmp_path, script) as (_, edge):
        answers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(edge.address.host, edge.address.port)
            writer.write(b"GET /a HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n")
            answers.append((await reader.read()).decode())
            writer.close()
            await edge.settled()
        assert answers[0].startswith("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert answers[1].startswith("HTTP/1.1 200 OK\r\n")


async def test_a_204_is_stored_like_any_other(deployment: Deployment, tmp_path: Path) -> None:
    async with site(deployment, tmp_path, answering("Cache-Control: max-age=60", status="204 No Content")) as (parent, edge):
        for _ in range(2):
            status, fields, body = await edge.get("/a")
            assert (status, body) == (204, b"")
            await edge.settled()
        assert "hit" in fields["cache-status"]
        assert len(parent.asked) == 1


async def test_a_location_that_is_no_reference_invalidates_nothing_and_passes(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        site(deployment, tmp_path, answering("Location: http://[oops", status="303 See Other")) as (_, edge),
        edge.client.post(edge.url("/a"), data=b"", allow_redirects=False) as response,
    ):
        assert (response.status, response.headers["Location"]) == (303, "http://[oops")


async def test_a_stale_variant_is_asked_about_though_another_one_was_confirmed(deployment: Deployment, tmp_path: Path) -> None:
    kinds = [f"kind-{number}" for number in range(8)]
    version, gates = 1, asyncio.Semaphore(100)

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        kind = asked.fields["x-kind"]
        # The first one never changes: of the others the parent has another version later.
        tag = f'"{kind}-{1 if kind == kinds[0] else version}"'
        common = ("Cache-Control: max-age=0", "Vary: X-Kind", f"ETag: {tag}")
        async with gates:
            if asked.fields.get("if-none-match") == tag:
                writer.write(header("304 Not Modified", *common))
            else:
                writer.write(header("200 OK", *common, f"Content-Length: {len(tag)}") + tag.encode())
            await writer.drain()

    async with site(deployment, tmp_path, script) as (parent, edge):
        for kind in kinds:
            assert (await edge.get("/a", X_Kind=kind))[2] == f'"{kind}-1"'.encode()
            await edge.settled()
        version, gates = 2, asyncio.Semaphore(0)
        asking = [asyncio.create_task(edge.get("/a", X_Kind=kinds[0]))]
        await until(lambda: len(parent.asked) == len(kinds) + 1)
        asking += [asyncio.create_task(edge.get("/a", X_Kind=kind)) for kind in kinds[1:] for _ in range(2)]
        await until(lambda: edge.followers("site/a") == len(asking))
        for _ in range(100):
            gates.release()
        got = [(await one)[::2] for one in asking]
        assert got[0] == (200, b'"kind-0-1"')
        assert got[1:] == [(200, f'"{kind}-2"'.encode()) for kind in kinds[1:] for _ in range(2)]


@pytest.mark.parametrize("directive", ["private", "no-cache"])
async def test_a_field_that_is_one_clients_alone_is_not_kept_of_a_confirmation_either(
    deployment: Deployment, tmp_path: Path, directive: str
) -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        fields = (f'Cache-Control: max-age=60, {directive}="Set-Cookie"', "Set-Cookie: a=b", 'ETag: "v1"')
        if asked.fields.get("if-none-match") == '"v1"':
            writer.write(header("304 Not Modified", *fields))
        else:
            writer.write(header("200 OK", *fields, "Content-Length: 2") + b"ok")
        await writer.drain()

    async with site(deployment, tmp_path, script) as (parent, edge):
        assert "set-cookie" in (await edge.get("/a"))[1]
        await edge.settled()
        assert (await edge.get("/a", Cache_Control="no-cache"))[0] == 200
        assert parent.asked[-1].fields["if-none-match"] == '"v1"'
        assert "set-cookie" not in (await edge.get("/a"))[1]


async def test_followers_do_not_get_a_field_that_is_the_leaders_alone(deployment: Deployment, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        fields = ('Cache-Control: max-age=60, private="Set-Cookie"', "Set-Cookie: a=b", "Content-Length: 2")
        writer.write(header("200 OK", *fields) + b"ok")
        await writer.drain()

    async with site(deployment, tmp_path, script) as (parent, edge):
        asking = [asyncio.create_task(edge.get("/a")) for _ in range(3)]
        await until(lambda: edge.followers("site/a") == 3)
        release.set()
        got = [await one for one in asking]
        assert [body for _, _, body in got] == [b"ok"] * 3
        assert sum("set-cookie" in fields for _, fields, _ in got) == 1
        assert len(parent.asked) == 1


@pytest.mark.parametrize("control", ["private, max-age=60", "no-store"])
async def test_an_object_whose_confirmation_forbids_to_share_it_is_shared_no_more(
    deployment: Deployment, tmp_path: Path, control: str
) -> None:
    shared = True

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        terms = "max-age=60" if shared else control
        common = (f"Cache-Control: {terms}", 'ETag: "v1"', "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT")
        if asked.fields.get("if-none-match") == '"v1"':
            writer.write(header("304 Not Modified", *common))
        else:
            writer.write(header("200 OK", *common, "Content-Length: 2") + b"ok")
        await writer.drain()

    async with site(deployment, tmp_path, script) as (parent, edge):
        await edge.get("/a")
        await edge.settled()
        shared = False
        for _ in range(3):
            status, fields, body = await edge.get("/a", Cache_Control="no-cache")
            assert (status, body, fields["cache-control"]) == (200, b"ok", control)
            await edge.settled()
        before = len(parent.asked)
        assert "hit" not in (await edge.get("/a"))[1]["cache-status"]
        assert len(parent.asked) == before + 1


async def test_a_late_confirmation_of_what_was_replaced_meanwhile_changes_nothing(deployment: Deployment, tmp_path: Path) -> None:
    version, confirm = 1, asyncio.Event()

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        common = ("Cache-Control: max-age=60", f'ETag: "{version}"')
        if asked.line.startswith("POST"):
            writer.write(header("204 No Content"))
        elif "if-none-match" in asked.fields:
            await confirm.wait()
            writer.write(header("304 Not Modified", "Cache-Control: max-age=60", 'ETag: "1"'))
        else:
            body = b"x" * version
            writer.write(header("200 OK", *common, f"Content-Length: {len(body)}") + body)
        await writer.drain()

    async with site(deployment, tmp_path, script) as (parent, edge):
        assert (await edge.get("/a"))[2] == b"x"
        await edge.settled()
        asking = asyncio.create_task(edge.get("/a", Cache_Control="no-cache"))
        await until(lambda: len(parent.asked) == 2)
        version = 2
        async with edge.client.post(edge.url("/a"), data=b"") as response:
            assert response.status == 204
        assert (await edge.get("/a"))[2] == b"xx"
        await until(lambda: edge.proxy.fills.under_way == 1)
        confirm.set()
        await asking
        await edge.settled()
        for fields in ({}, {"X_Y": "past the fast lane"}):
            _, said, body = await edge.get("/a", **fields)
            assert (said["etag"], said["content-length"], body) == ('"2"', "2", b"xx")
