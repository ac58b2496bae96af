"""Purges at a running edge: gone from memory, disk and running fills; what is stale is asked about; tags stay inside."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.settings.deployment import Deployment
from tests.stories.cacheproxy.test_ordinary_sites import answering, site
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.scriptedparent import Asked, header, scripted_parent, serving
from tests.support.waiting import until

VIDEO = "abcdefghijA"
PATH = f"/videos/{VIDEO}/h264/360p/segment_00000.m4s"
KEY = f"video{PATH}"
BODY = b"x" * 100_000

EVERY_WAY = [
    (PurgeKind.OBJECT, KEY),
    (PurgeKind.PREFIX, f"video/videos/{VIDEO}/h264"),
    (PurgeKind.PREFIX, "video/"),
    (PurgeKind.TAG, VIDEO),
    (PurgeKind.EVERYTHING, ""),
]


async def purge(edge: RunningEdge, kind: PurgeKind, target: str, *, soft: bool = False) -> None:
    record = PurgeRecord(edge.store.purges.sequence + 1, kind, target, soft, 0.0)
    await asyncio.to_thread(edge.store.purges.take, [record])


@pytest.mark.parametrize(("kind", "target"), EVERY_WAY)
async def test_a_purged_object_is_fetched_again_and_then_stays(
    deployment: Deployment, tmp_path: Path, kind: PurgeKind, target: str
) -> None:
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        await edge.get(PATH)
        await edge.settled()
        await purge(edge, kind, target)
        parent.script = serving(BODY[::2], etag='"v2"')
        _, fields, body = await edge.get(PATH)
        assert body == BODY[::2]
        assert "fwd=uri-miss" in fields["cache-status"]
        assert "if-none-match" not in parent.asked[1].fields
        await edge.settled()
        assert "hit" in (await edge.get(PATH))[1]["cache-status"]


async def test_a_purge_that_names_another_object_leaves_this_one(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        await edge.get(PATH)
        await edge.settled()
        for kind, target in [(PurgeKind.OBJECT, f"{KEY}x"), (PurgeKind.PREFIX, KEY[:-1]), (PurgeKind.TAG, "abcdefghijE")]:
            await purge(edge, kind, target)
            assert "hit" in (await edge.get(PATH))[1]["cache-status"]


async def test_a_purge_holds_after_a_restart(deployment: Deployment, tmp_path: Path) -> None:
    async with scripted_parent(serving(BODY)) as parent:
        snapshot = with_parents(deployment, [parent.address])
        async with running_edge(snapshot, tmp_path) as edge:
            await edge.get(PATH)
            await edge.settled()
            await purge(edge, PurgeKind.TAG, VIDEO)
        async with running_edge(snapshot, tmp_path) as edge:
            assert "fwd=uri-miss" in (await edge.get(PATH))[1]["cache-status"]
            await edge.settled()
        async with running_edge(snapshot, tmp_path) as edge:
            assert "hit" in (await edge.get(PATH))[1]["cache-status"]
        assert len(parent.asked) == 2


async def test_a_softly_purged_object_is_asked_about_and_then_fresh_again(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        await edge.get(PATH)
        await edge.settled()
        await purge(edge, PurgeKind.TAG, VIDEO, soft=True)
        _, fields, body = await edge.get(PATH)
        assert body == BODY
        assert "fwd=stale; fwd-status=304" in fields["cache-status"]
        assert parent.asked[1].fields["if-none-match"] == '"v1"'
        assert "hit; ttl=" in (await edge.get(PATH))[1]["cache-status"]
        assert len(parent.asked) == 2


async def test_a_softly_purged_object_may_be_served_while_it_is_asked_about(deployment: Deployment, tmp_path: Path) -> None:
    script = answering("Cache-Control: max-age=60, stale-while-revalidate=60", "Cache-Tag: shop, news")
    async with site(deployment, tmp_path, script) as (parent, edge):
        assert (await edge.get("/a"))[2] == b"1"
        await edge.settled()
        await purge(edge, PurgeKind.TAG, "news", soft=True)
        assert (await edge.get("/a"))[2] == b"1"
        await edge.settled()
        assert (await edge.get("/a"))[2] == b"2"
        assert len(parent.asked) == 2


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("kind", "target"), EVERY_WAY)
async def test_a_running_fill_that_is_purged_takes_no_newcomers_and_is_not_stored(
    deployment: Deployment, tmp_path: Path, kind: PurgeKind, target: str, soft: bool
) -> None:
    go_on = asyncio.Event()

    async def old_then_new(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(parent.asked) > 1:
            await serving(b"new", etag='"v2"')(asked, writer)
            return
        writer.write(header("200 OK", 'ETag: "v1"', "Cache-Control: max-age=60", "Content-Length: 6") + b"old")
        await go_on.wait()
        writer.write(b"old")

    async with (
        scripted_parent(old_then_new) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        early = await edge.client.get(edge.url(PATH))
        await purge(edge, kind, target, soft=soft)
        assert (await edge.get(PATH))[2] == b"new"
        assert len(parent.asked) == 2
        go_on.set()
        assert await early.read() == b"oldold"  # it asked before the purge
        await edge.settled()
        if not soft:
            status, fields, body = await edge.get(PATH)
            assert (status, body) == (200, b"new")
            assert "hit" in fields["cache-status"]


@pytest.mark.parametrize(("kind", "target"), [(PurgeKind.TAG, "whatever"), (PurgeKind.OBJECT, KEY)])
async def test_a_fill_without_a_header_yet_takes_no_newcomers_after_a_purge_that_may_name_it(
    deployment: Deployment, tmp_path: Path, kind: PurgeKind, target: str
) -> None:
    go_on = asyncio.Event()

    async def first_waits(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(parent.asked) == 1:
            await go_on.wait()
            await serving(b"old", "Cache-Tag: whatever")(asked, writer)
        else:
            await serving(b"new", etag='"v2"')(asked, writer)

    async with (
        scripted_parent(first_waits) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        early = asyncio.create_task(edge.get(PATH))
        await until(lambda: len(parent.asked) == 1)
        await purge(edge, kind, target)
        assert (await edge.get(PATH))[2] == b"new"
        go_on.set()
        assert (await early)[2] == b"old"
        await edge.settled()
        assert (await edge.get(PATH))[2] == b"new"
        assert len(parent.asked) == 2


async def test_every_variant_of_a_purged_url_is_gone(deployment: Deployment, tmp_path: Path) -> None:
    script = answering("Cache-Control: max-age=60", "Vary: X-Kind", "Surrogate-Key: red green", echo="x-kind")
    async with site(deployment, tmp_path, script) as (parent, edge):
        asked = 0
        for kind, target in [(PurgeKind.OBJECT, "site/a"), (PurgeKind.TAG, "green"), (PurgeKind.PREFIX, "site/")]:
            for _ in range(2):
                for value in ("one", "two"):
                    assert (await edge.get("/a", X_Kind=value))[2] == value.encode()
                    await edge.settled()
            asked += 2
            assert len(parent.asked) == asked
            await purge(edge, kind, target)


async def test_viewers_do_not_see_the_tags(deployment: Deployment, tmp_path: Path) -> None:
    script = answering("Cache-Control: max-age=60", "Cache-Tag: shop", "Surrogate-Key: red")
    async with site(deployment, tmp_path, script) as (_, edge):
        for method in ("GET", "GET", "POST"):
            async with edge.client.request(method, edge.url("/a")) as response:
                assert response.status == 200
                assert not {"cache-tag", "surrogate-key"} & {name.lower() for name in response.headers}
            await edge.settled()
