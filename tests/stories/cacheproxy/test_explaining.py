"""What an edge says of one object while it comes, is there, becomes stale and is found again after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.settings.deployment import Deployment
from tests.support.proxies import running_edge, with_parents
from tests.support.scriptedparent import Asked, header, scripted_parent, serving
from tests.support.waiting import until

VIDEO = "abcdefghijA"
PATH = f"/videos/{VIDEO}/h264/360p/segment_00000.m4s"
KEY = f"video{PATH}"


async def test_an_object_is_explained_wherever_it_is(deployment: Deployment, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def in_halves(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if "if-none-match" in asked.fields:
            await serving(b"a" * 2000)(asked, writer)
            return
        writer.write(header("200 OK", 'ETag: "v1"', "Cache-Control: max-age=60", "Content-Length: 2000") + b"a" * 1000)
        await go_on.wait()
        writer.write(b"a" * 1000)

    async with scripted_parent(in_halves) as one, scripted_parent(in_halves) as other:
        snapshot = with_parents(deployment, [one.address, other.address])
        async with running_edge(snapshot, tmp_path) as edge:
            first, second = edge.parents_in_order(KEY)
            cold = await edge.proxy.explain(KEY)
            assert (cold["place"], cold["stored"], cold["next"]) == ("nowhere", None, f"fill from {first}")
            assert [parent["name"] for parent in cold["parents"]] == [first, second]
            assert cold["why"] == f"{first} ranks first for this key among 2"

            async with edge.client.get(edge.url(PATH)) as response:
                fill = edge.proxy.fills.running(KEY)
                assert fill is not None
                await until(lambda: fill.machine.received == 1000)
                coming = await edge.proxy.explain(KEY)
                assert (coming["place"], coming["next"]) == ("running fill", "follow the running fill")
                assert coming["fill"] == {
                    "state": "receiving",
                    "received_bytes": 1000,
                    "size_bytes": 2000,
                    "followers": 1,
                    "parent": first,
                    "resumes": 0,
                }
                go_on.set()
                await response.read()
            await edge.settled()
            there = await edge.proxy.explain(KEY)
            assert (there["place"], there["next"], there["fill"]) == ("ram", "serve", None)
            stored = there["stored"]
            assert (stored["status"], stored["size_bytes"], stored["validator"]) == (200, 2000, '"v1"')
            assert (stored["freshness"], stored["tags"]) == ("fresh", [VIDEO])
            assert 0 <= stored["age_s"] < 60
            assert 0 < stored["ttl_s"] <= 60
        async with running_edge(snapshot, tmp_path) as edge:
            assert (await edge.proxy.explain(KEY))["place"] == "disk"
            await asyncio.to_thread(edge.store.purges.take, [PurgeRecord(1, PurgeKind.TAG, VIDEO, True, 0.0)])
            stale = await edge.proxy.explain(KEY)
            assert stale["stored"]["softly_purged"]
            assert (stale["stored"]["freshness"], stale["next"]) == ("stale", f"ask {first} whether it still holds")
            down = one if first == "shield-1" else other
            await down.close()
            await edge.get(PATH)  # asks the first in vain, and remembers it
            after = await edge.proxy.explain(KEY)
            assert after["parents"][0]["name"] == second
            assert f"{first} failed of late" in after["why"]
            await asyncio.to_thread(edge.store.purges.take, [PurgeRecord(2, PurgeKind.TAG, VIDEO, False, 0.0)])
            assert (await edge.proxy.explain(KEY))["place"] == "nowhere"
            await down.open()


async def test_what_is_served_while_it_is_asked_about_is_explained_so(deployment: Deployment, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        fields = ('ETag: "v1"', "Cache-Control: max-age=0, stale-while-revalidate=60")
        if "if-none-match" in asked.fields:
            await go_on.wait()
            writer.write(header("304 Not Modified", *fields))
        else:
            writer.write(header("200 OK", *fields, "Content-Length: 1") + b"a")

    async with scripted_parent(script) as one, running_edge(with_parents(deployment, [one.address]), tmp_path) as edge:
        await edge.get(PATH)
        await edge.settled()
        assert (await edge.proxy.explain(KEY))["next"] == "serve and ask shield-1 whether it still holds"
        await edge.get(PATH)
        await until(lambda: len(one.asked) == 2)
        assert (await edge.proxy.explain(KEY))["next"] == "serve; the running fill asks"
        assert "hit" in (await edge.get(PATH))[1]["cache-status"]
        go_on.set()
        await edge.settled()


async def test_a_key_of_no_property_is_explained_as_such(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(b"a")) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        said = await edge.proxy.explain("other/a")
        assert (said["place"], said["parents"], said["why"]) == ("nowhere", [], "'other' is no property")
