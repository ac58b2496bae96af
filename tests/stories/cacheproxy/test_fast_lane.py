"""The fast lane gives the very answers of the ordinary handler: two edges, one with the lane, are asked the same things."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from pathlib import Path

import pytest

from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.runtime.metrics import value
from headwater.settings.limits import Limits
from signer.grant import Grant, mint
from tests.support.lanes import (
    BODIES,
    KEY,
    PLAIN,
    SILENCE_S,
    VIDEO,
    Talk,
    lines_of,
    parent_script,
    snapshot_for,
    some_steps,
    tokens,
    two_edges,
)
from tests.support.proxies import RunningEdge, running_edge
from tests.support.scriptedparent import scripted_parent
from tests.support.waiting import until


@pytest.mark.slow
async def test_thousands_of_requests_get_the_same_bytes_and_log_lines_with_and_without_the_lane(tmp_path: Path) -> None:
    before = value("headwater_cache_fast_lane_total")
    async with two_edges(tmp_path) as edges:
        dice, asked = random.Random(20_261_120), 0
        while asked < 2000:
            steps = some_steps(dice, edges.tokens)
            asked += len(steps)
            fast, slow = await edges.ask(steps)
            assert fast == slow, steps
        assert lines_of(edges.fast) == lines_of(edges.slow)
    assert value("headwater_cache_fast_lane_total") > before + 300


def get(token: str, name: str = "small", *fields: str) -> bytes:
    return "\r\n".join([f"GET /{token}{VIDEO}h264/{name} HTTP/1.1", *PLAIN, *fields, "", ""]).encode()


async def laned(edge: RunningEdge, *steps: bytes) -> int:
    """How many of the requests the lane answered."""
    before = value("headwater_cache_fast_lane_total")
    async with Talk.with_(edge) as talk:
        for step in steps:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SILENCE_S if not step.endswith(b"\r\n\r\n") else 10):
                    await talk.say(step)
    await edge.settled()
    return int(value("headwater_cache_fast_lane_total") - before)


async def test_the_lane_answers_whole_hits_and_leaves_the_rest(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as edges:
        token = edges.tokens["valid"]
        assert await laned(edges.fast, get(token)) == 0  # a miss
        assert await laned(edges.fast, get(token), get(token), get(token)) == 3
        assert await laned(edges.slow, get(token), get(token)) == 0
        assert await laned(edges.fast, get(token, "small", "Range: bytes=0-4"), get(token)) == 1
        assert await laned(edges.fast, get(token) + get(token), get(token)) == 0  # pipelined: the parser may hold more
        assert await laned(edges.fast, get(token)[:50], get(token)[50:], get(token)) == 1  # ended with a whole request again
        assert await laned(edges.fast, get(token, "small", "Content-Length: 4") + b"body", get(token)) <= 1


class QuickClient(asyncio.Transport):
    """The transport of a connection whose client asks again at the very moment in which an answer is written."""

    def __init__(self, requests: list[bytes]) -> None:
        super().__init__({"peername": ("127.0.0.1", 4)})
        self.written = 0
        self.answered = asyncio.Event()
        self._left = requests
        self._protocol: asyncio.Protocol | None = None

    def talk_to(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)
        self._ask()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += 1
        self._ask()

    def _ask(self) -> None:
        assert self._protocol is not None
        if self._left:
            asyncio.get_running_loop().call_soon(self._protocol.data_received, self._left.pop(0))
        else:
            self.answered.set()

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """It stays open."""


async def test_a_client_that_asks_again_at_once_is_back_in_the_lane_after_an_ordinary_answer(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as edges:
        token = edges.tokens["valid"]
        await laned(edges.fast, get(token))
        before = value("headwater_cache_fast_lane_total")
        ordinary = get(token, "small", "Range: bytes=0-4")
        client = QuickClient([ordinary, get(token), get(token), ordinary, get(token)])
        connection = edges.fast.server.connection()
        client.talk_to(connection)
        await asyncio.wait_for(client.answered.wait(), 5)
        connection.connection_lost(None)
        assert client.written == 5
        assert value("headwater_cache_fast_lane_total") == before + 3


@pytest.mark.parametrize("soft", [False, True])
async def test_what_is_purged_is_gone_from_the_lane_at_once(tmp_path: Path, soft: bool) -> None:
    async with two_edges(tmp_path) as edges:
        token = edges.tokens["valid"]
        await laned(edges.fast, get(token))
        assert await laned(edges.fast, get(token)) == 1
        key = f"video{VIDEO}h264/small"
        await asyncio.to_thread(edges.fast.store.purges.take, [PurgeRecord(1, PurgeKind.OBJECT, key, soft, 0.0)])
        assert await laned(edges.fast, get(token)) == 0


async def test_a_retired_key_closes_the_lane(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as edges:
        token = edges.tokens["valid"]
        await laned(edges.fast, get(token))
        assert await laned(edges.fast, get(token)) == 1
        keys = [key.model_copy(update={"state": "retired"}) for key in edges.fast.snapshot.keys]
        edges.fast.snapshot = edges.fast.snapshot.model_copy(update={"keys": keys})
        assert await laned(edges.fast, get(token)) == 0
        assert json.loads(edges.fast.log.getvalue().splitlines()[-1])["refusal"] == "key_retired"


async def test_what_a_connection_remembers_ends_with_its_grant_and_with_the_snapshot(tmp_path: Path) -> None:
    ends_at = int(time.time()) + 2
    async with two_edges(tmp_path) as edges, Talk.with_(edges.fast) as talk:
        leeway_s = edges.fast.snapshot.deployment.signing.leeway
        short = mint(Grant(key_id=KEY.key_id, expires_at=int(ends_at - leeway_s), prefix=VIDEO), KEY)
        before = value("headwater_cache_fast_lane_total")
        for _ in range(3):
            await talk.say(get(short))
        assert value("headwater_cache_fast_lane_total") == before + 2
        await asyncio.sleep(max(0.0, ends_at - time.time()) + 0.05)
        await talk.say(get(short))
        await talk.say(get(edges.tokens["valid"]))
        await talk.say(get(edges.tokens["valid"]))
        edges.fast.snapshot = edges.fast.snapshot.model_copy(update={"keys": []})
        await talk.say(get(edges.tokens["valid"]))
        assert [said[9:12] for said in talk.said] == [b"200", b"200", b"200", b"403", b"200", b"200", b"403"]
        assert value("headwater_cache_fast_lane_total") == before + 3


async def test_age_and_lifetime_are_those_of_the_moment(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as edges, Talk.with_(edges.fast) as talk:
        started, before = time.time(), value("headwater_cache_fast_lane_total")
        while time.time() < started + 2.1:
            await talk.say(get(edges.tokens["valid"]))
            await asyncio.sleep(0.01)
        assert value("headwater_cache_fast_lane_total") == before + len(talk.said) - 1
        told = [re.search(rb"Age: (\d+)\r\n.*ttl=(\d+)", said, re.DOTALL) for said in talk.said[1:]]
        ages = [(int(one[1]), int(one[2])) for one in told if one is not None]
        assert ages == sorted(ages)
        assert {age for age, _ in ages} == {0, 1, 2}
        assert {age + ttl for age, ttl in ages} <= {599, 600}


async def test_the_metrics_count_the_lanes_answers_as_the_ordinary_path_does(tmp_path: Path) -> None:
    names: list[tuple[str, dict[str, str]]] = [
        ("headwater_cache_requests_total", {"outcome": "hit", "status": "2xx"}),
        ("headwater_cache_sent_bytes_total", {"outcome": "hit"}),
        ("headwater_cache_first_byte_seconds_count", {"outcome": "hit"}),
        ("headwater_cache_first_byte_seconds_bucket", {"outcome": "hit", "le": "30.0"}),
        ("headwater_store_lookups_total", {"place": "ram"}),
        ("headwater_grants_total", {"how": "remembered"}),
    ]
    async with two_edges(tmp_path) as edges:
        token = edges.tokens["valid"]
        grown = []
        for edge in (edges.fast, edges.slow):
            await laned(edge, get(token))
            before = [value(name, **labels) for name, labels in names]
            await laned(edge, *[get(token)] * 7)
            grown.append([value(name, **labels) - start for (name, labels), start in zip(names, before, strict=True)])
    assert grown[0] == grown[1] == [7, 7000, 7, 7, 7, 7]


async def test_log_lines_that_wait_are_written_within_a_moment_without_another_request(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as edges:
        token = edges.tokens["valid"]
        await laned(edges.fast, get(token))
        assert await laned(edges.fast, get(token)) == 1  # who reads a metric has the lines counted, and written
        written = edges.fast.log.tell()
        started = time.perf_counter()
        async with Talk.with_(edges.fast) as talk:
            await talk.say(get(token))
        assert edges.fast.log.tell() == written or time.perf_counter() - started > 0.1
        await until(lambda: edges.fast.log.tell() > written, timeout_s=5)


async def test_a_reader_that_stopped_reading_holds_one_body_and_shares_it(tmp_path: Path) -> None:
    """The lane writes only to a connection that has taken everything before, and never copies a large body."""
    async with two_edges(tmp_path) as edges:
        token = edges.tokens["valid"]
        await laned(edges.fast, get(token, "large"))
        before = value("headwater_cache_fast_lane_total")
        reader, writer = await asyncio.open_connection(edges.fast.address.host, edges.fast.address.port, limit=2**12)
        for _ in range(400):  # 80 MB are asked for and not read
            writer.write(get(token, "large"))
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        first = value("headwater_cache_fast_lane_total") - before
        assert first < 100
        expected = len(BODIES["large"])
        for _ in range(400):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 OK" in head
            assert len(await reader.readexactly(expected)) == expected
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", ["stale", "private", "varying", "empty", "missing"])
async def test_objects_that_are_no_plain_whole_hit_go_the_ordinary_way(tmp_path: Path, name: str) -> None:
    async with two_edges(tmp_path) as edges:
        token = edges.tokens["valid"]
        assert await laned(edges.fast, get(token, name), get(token, name), get(token, name)) == 0


async def test_a_clients_rate_holds_in_the_lane_too(tmp_path: Path) -> None:
    limits = Limits(client_rate=0.01, client_burst=6, exempt=[])
    async with (
        scripted_parent(parent_script) as parent,
        running_edge(snapshot_for(tmp_path / "a", parent), tmp_path / "a", limits=limits) as edge,
    ):
        token = tokens()["valid"]
        await laned(edge, get(token))
        assert await laned(edge, *[get(token)] * 9) == 5
        lines = [json.loads(line) for line in edge.log.getvalue().splitlines()]
        assert [line["status"] for line in lines] == [200] * 6 + [429] * 4
