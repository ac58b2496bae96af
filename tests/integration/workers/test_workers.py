"""An edge of several workers, as real processes before a parent that counts: one node to everyone who asks it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from headwater.rules.names import bucket_of, parse_video_id
from headwater.runtime.workerplace import process_sockets, sockets_folder
from headwater.settings.deployment import admin_address
from headwater.settings.units import Address
from tests.support.lab import Lab, running_lab
from tests.support.rangedsite import RangedSite
from tests.support.scriptedparent import Asked, ScriptedParent, header, scripted_parent, serving
from tests.support.waiting import until

EDGE = "fra-1"
LONG_S = 3600  # no object ends within a test, however slow the machine
BODY = os.urandom(300_000)
SLICE, LARGE = 64 * 1024, os.urandom(40 * 64 * 1024 + 77)
SLICES = {"above": "400 KiB", "size": "64 KiB"}
RAM_BYTES, DISK_BYTES = 16 * 2**20, 12 * 2**20


class Node:
    """One edge of several workers, its parent, and requests to it over connections of their own."""

    def __init__(self, lab: Lab, parent: ScriptedParent) -> None:
        self.lab = lab
        self.parent = parent
        self.url = lab.deployment.edge(EDGE).listen.url

    @property
    def folder(self) -> Path:
        return self.lab.deployment.data / "nodes" / EDGE

    def pids(self) -> set[int]:
        """The worker processes by the sockets that they answer at."""
        return {int(path.name.split(".")[1]) for path in process_sockets(sockets_folder(self.folder))}

    def asked(self, path: str) -> list[Asked]:
        return [asked for asked in self.parent.asked if asked.line.split()[1] == path]

    async def get(self, path: str, **fields: str) -> tuple[int, bytes, str]:
        """One request over a new connection, which any worker may accept: (status, body, Cache-Status)."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), auto_decompress=False) as client,
            client.get(self.url + path, headers=fields) as answer,
        ):
            return answer.status, await answer.read(), answer.headers.get("Cache-Status", "")

    async def metric(self, name: str, **labels: str) -> float:
        return await self.lab.metric(EDGE, name, **labels)


@asynccontextmanager
async def node_of(workers: int, folder: Path, **cache: str) -> AsyncIterator[Node]:
    async with scripted_parent(serving(BODY, fresh_s=LONG_S)) as parent:

        def changes(content: dict[str, Any]) -> None:
            edge = content["pops"]["fra"]["edges"][EDGE]
            edge["workers"] = workers
            edge["cache"] = {"ram": f"{RAM_BYTES} B", "disk": f"{DISK_BYTES} B", "slices": SLICES, **cache}
            content["properties"]["video"] |= {"signed": False, "shielded": False, "parent": parent.address.url}

        async with running_lab(folder, ["control", EDGE], changes) as lab:
            yield Node(lab, parent)


# One node for all tests of this file but the one that ends it: they ask for paths of their own and count differences.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("workers")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[2, 3])
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with node_of(request.param, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def node(running: Node) -> Node:
    running.parent.script = serving(BODY, fresh_s=LONG_S)
    running.parent.asked.clear()
    return running


def on_disk(node: Node) -> int:
    """Bytes of all object files; some may be evicted meanwhile."""
    total = 0
    for folder, _, names in os.walk(node.folder / "store" / "objects"):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


async def test_a_crowd_over_all_workers_costs_one_request_at_the_parent(node: Node) -> None:
    followers = asyncio.Event()

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", 'ETag: "v1"', "Cache-Control: max-age=60", f"Content-Length: {len(BODY)}") + BODY[:1000])
        await followers.wait()
        writer.write(BODY[1000:])
        await writer.drain()

    node.parent.script = slow
    fills, requests = await node.metric("headwater_fills_total"), await node.metric("headwater_cache_requests_total")
    crowd = [asyncio.create_task(node.get("/videos/a/segment_00000.m4s")) for _ in range(500)]
    async with asyncio.timeout(30):
        while await node.metric("headwater_cache_requests_in_flight") < 500:  # noqa: ASYNC110 - another process's count
            await asyncio.sleep(0.05)
    followers.set()
    answers = await asyncio.gather(*crowd)
    assert {(status, body == BODY) for status, body, _ in answers} == {(200, True)}
    assert len(node.asked("/videos/a/segment_00000.m4s")) == 1
    assert {member.partition(";")[0] for _, _, status in answers for member in status.split(", ")} == {EDGE}
    assert await node.metric("headwater_fills_total") - fills == 1
    assert await node.metric("headwater_cache_requests_total") - requests == 500
    lines = [line for line in node.lab.access_log(EDGE) if line["path"] == "/videos/a/segment_00000.m4s"]
    assert len(lines) == 500


async def test_the_store_belongs_to_the_node(node: Node) -> None:
    """Whatever worker filled an object, the others find it, each asked for over many connections."""
    paths = [f"/videos/shared/{number}" for number in range(10)]
    for path in paths:
        assert (await node.get(path))[1] == BODY
    for path in paths:
        for _ in range(4):
            status, body, cache_status = await node.get(path)
            assert (status, body == BODY) == (200, True)
            assert "hit" in cache_status
    assert len(node.parent.asked) == len(paths)


async def test_the_load_report_is_that_of_all_workers(node: Node) -> None:
    path = "/videos/dQw4w9WgXcQ/h264/720p/segment_00000.m4s"
    bucket = f"{bucket_of(parse_video_id('dQw4w9WgXcQ')):03x}"
    for _ in range(8):
        await node.get(path)
    answer = await node.lab.http.get(f"{admin_address(node.lab.deployment, EDGE).url}/load")
    assert answer.json()["sent_bytes"] == {bucket: 8 * len(BODY)}


async def test_every_slice_of_a_large_object_comes_once_for_the_node(node: Node) -> None:
    """While the stores have room: in a full one that is as small as these, what came last may leave before it is read again."""
    site = RangedSite(LARGE, parent=node.parent)
    node.parent.script = site
    path = "/videos/e/large.mp4"
    middle = slice(20 * SLICE + 5, 20 * SLICE + 25)

    async def in_the_middle() -> bool:
        return (await node.get(path, Range=f"bytes={middle.start}-{middle.stop - 1}"))[:2] == (206, LARGE[middle])

    site.free.clear()
    crowd = [asyncio.create_task(in_the_middle()) for _ in range(12)]
    await until(lambda: node.asked(path))
    site.free.set()
    assert all(await asyncio.gather(*crowd))
    assert site.ranges == [f"bytes={20 * SLICE}-{21 * SLICE - 1}"]
    answers = await asyncio.gather(*(node.get(path) for _ in range(8)))
    assert {(status, body == LARGE) for status, body, _ in answers} == {(200, True)}
    asked = [one for one in site.ranges if one is not None]
    assert sorted(asked) == sorted(set(asked)), "a slice was asked for twice"
    assert site.ranges.count(None) <= 1
    all_asked = len(site.ranges)
    for _ in range(6):
        assert await in_the_middle()
    assert len(site.ranges) == all_asked


async def test_the_budgets_hold_in_sum(node: Node) -> None:
    for number in range(80):
        await node.get(f"/videos/b/{number}")
    assert on_disk(node) <= DISK_BYTES
    assert await node.metric("headwater_store_disk_bytes") <= DISK_BYTES
    assert await node.metric("headwater_store_ram_bytes") <= RAM_BYTES


async def test_a_stale_object_is_revalidated_once_for_the_node(node: Node) -> None:
    path = "/videos/c/playlist"
    life = ["max-age=1"]

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        common = ('ETag: "v1"', f"Cache-Control: {life[0]}")
        if asked.fields.get("if-none-match") == '"v1"':
            writer.write(header("304 Not Modified", *common))
        else:
            writer.write(header("200 OK", *common, "Content-Length: 5") + b"hello")
        await writer.drain()

    node.parent.script = script
    await node.get(path)
    life[0] = "max-age=60"
    async with asyncio.timeout(20):  # until the object has grown stale by the clock of the node, under a crowd
        while len(node.asked(path)) == 1:
            answers = await asyncio.gather(*(node.get(path) for _ in range(30)))
            assert {(status, body) for status, body, _ in answers} == {(200, b"hello")}
    await asyncio.gather(*(node.get(path) for _ in range(30)))
    assert len(node.asked(path)) == 2
    assert node.asked(path)[1].fields["if-none-match"] == '"v1"'


async def test_an_unsafe_method_invalidates_in_every_worker(node: Node) -> None:
    path = "/videos/d/page"
    for _ in range(12):
        assert (await node.get(path))[:2] == (200, BODY)
    assert len(node.asked(path)) == 1
    node.parent.script = serving(b"new", etag='"v2"')
    async with aiohttp.ClientSession() as client, client.post(node.url + path) as answer:
        assert answer.status == 200
    for _ in range(12):
        assert (await node.get(path))[1] == b"new"
    assert len([asked for asked in node.asked(path) if asked.line.startswith("GET")]) == 2


class Load:
    """Clients that ask without a pause, over connections that they keep, until told to stop; `failed` is what went wrong."""

    def __init__(self, node: Node, clients: int) -> None:
        self._node = node
        self._stopping = False
        self.done = 0
        self.failed: list[str] = []
        self._clients = [asyncio.create_task(self._client(number)) for number in range(clients)]

    async def _client(self, number: int) -> None:
        """Speaks HTTP itself: a library would ask again behind our back when a kept connection turns out closed."""
        listen: Address = self._node.lab.deployment.edge(EDGE).listen
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stopping:
            path = f"/videos/load/{(self.done + number) % 7}"
            try:
                reader, writer = connection = connection or await asyncio.open_connection(listen.host, listen.port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {listen.host}\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                body = await reader.readexactly(length)
                if not head.startswith("http/1.1 200") or body != BODY:
                    self.failed.append(head)
                if "connection: close" in head:
                    writer.close()
                    connection = None
            except (OSError, EOFError) as error:
                self.failed.append(repr(error))
                if connection is not None:
                    connection[1].close()
                connection = None
            self.done += 1
            await asyncio.sleep(0.002)
        if connection is not None:
            connection[1].close()

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._clients)


async def test_a_rolling_restart_under_load_fails_no_request(node: Node) -> None:
    old = node.pids()
    requests = await node.metric("headwater_cache_requests_total")
    replaced = await node.metric("headwater_node_worker_ends_total", why="replaced")
    load = Load(node, 24)
    await until(lambda: load.done > 500)
    node.lab.processes[EDGE].signal(signal.SIGHUP)
    await until(lambda: len(node.pids()) == len(old) and not node.pids() & old, 90)
    after = load.done
    await until(lambda: load.done > after + 500)
    await load.stop()
    assert load.failed == []
    assert await node.metric("headwater_node_worker_ends_total", why="replaced") - replaced == len(old)
    assert await node.metric("headwater_cache_requests_total") - requests == load.done  # the replaced workers' included
    assert len(node.parent.asked) <= 7 + 7  # a key whose owner was just exchanged may be asked for once more


async def test_a_killed_worker_is_missed_by_nobody_else_and_comes_back(node: Node) -> None:
    for number in range(7):
        await node.get(f"/videos/load/{number}")
    old, failed = node.pids(), await node.metric("headwater_node_worker_ends_total", why="failed")
    victim = min(old)
    load = Load(node, 24)
    await until(lambda: load.done > 500)
    os.kill(victim, signal.SIGKILL)
    await until(lambda: victim not in node.pids() and len(node.pids()) == len(old), 60)
    after = load.done
    await until(lambda: load.done > after + 500)
    await load.stop()
    assert len(load.failed) <= 24  # the connections that the dead worker held, each once
    assert old - {victim} < node.pids()
    assert await node.metric("headwater_node_worker_ends_total", why="failed") - failed == 1
    assert len(node.parent.asked) <= 7  # all from the node's own disk


async def test_a_node_drains_on_sigterm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What runs is finished; the process ends with status 0 and leaves no worker behind."""
    async with node_of(2, tmp_path_factory.mktemp("node")) as node:  # a short path: the workers' sockets are in it
        await _drains(node)


async def _drains(node: Node) -> None:
    gate = asyncio.Event()

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(header("200 OK", 'ETag: "v1"', "Cache-Control: max-age=60", f"Content-Length: {len(BODY)}") + BODY[:1000])
        await gate.wait()
        writer.write(BODY[1000:])
        await writer.drain()

    node.parent.script = slow
    pids = node.pids()
    running = [asyncio.create_task(node.get(f"/videos/e/{number}")) for number in range(8)]
    await until(lambda: len(node.parent.asked) == 8)
    process = node.lab.processes[EDGE]
    process.signal(signal.SIGTERM)
    gate.set()
    assert all(body == BODY for _, body, _ in await asyncio.gather(*running))
    assert await asyncio.wait_for(asyncio.shield(process.exited), 20) == 0
    assert not {int(entry) for entry in os.listdir("/proc") if entry.isdigit()} & pids
