"""The fast lane gives the very answers of the ordinary handler: two edges, one with the lane, are asked the same things."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from headwater.rules.httpdate import format_http_date
from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.runtime.metrics import value
from headwater.settings.cache import CacheSettings
from headwater.settings.limits import Limits
from headwater.settings.snapshot import PublishedKey, Snapshot
from signer.grant import Algorithm, Grant, KeyId, SigningKey, mint
from tests.support.deployments import lab_deployment
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.scriptedparent import Asked, ScriptedParent, header, scripted_parent
from tests.support.waiting import until

VIDEO = "/videos/abcdefghijA/"
HOST = "v3fa.cdn.test"
KEY = SigningKey(KeyId("lab-1"), Algorithm.HMAC_SHA256, b"k" * 32)
LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"
BODIES = {"tiny": b"x", "small": b"0123456789" * 100, "large": bytes(range(256)) * 800, "empty": b""}
HEADS = {
    "tiny": ("Cache-Control: max-age=600", 'ETag: "t"'),
    "small": (
        "Cache-Control: max-age=600",
        'ETag: "s"',
        "Content-Type: video/mp4",
        "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT",
    ),
    "large": ("Cache-Control: max-age=600", "Server: other/1", "Access-Control-Allow-Origin: https://a.test", "X-A: b", "X-A: c"),
    "empty": ("Cache-Control: max-age=600",),
    "stale": ("Cache-Control: max-age=0, stale-while-revalidate=600", 'ETag: "w"'),
    "private": ("Cache-Control: no-store",),
    "varying": ("Cache-Control: max-age=600", "Vary: Accept-Language"),
    "odd": ("Cache-Control: max-age=600", "X-Odd: caf\u00e9", "Connection: x-hop", "X-Hop: 1", "Age: 17"),
}
PLAIN = (f"Host: {HOST}", "User-Agent: player/1", "Accept: */*")
FIELDS = (
    *("Range: bytes=0-0", "Range: bytes=-5", "Range: bytes=5-", "Range: bytes=0-1,4-5", "Range: bytes=9999999-", "Range: x"),
    *('If-None-Match: "s"', "If-None-Match: *", 'If-Match: "other"', 'If-Range: "s"', "If-None-Match: odd"),
    *("If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT", "If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT"),
    *("Cache-Control: no-cache", "Cache-Control: only-if-cached", "Cache-Control: no-store", "Pragma: no-cache"),
    *("Connection: keep-alive", "Connection: close", "Connection: Keep-Alive, x-y", "Upgrade: websocket", "TE: trailers"),
    *("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "traceparent: junk", "Cookie: a=b"),
    *("Host: other.test", "Host : spaced", "X-Forwarded-For: 192.0.2.1", "Accept-Language: de", "Accept-Language: en, de"),
    *("Origin: https://a.test", "Referer: https://a.test/x", "DNT: 1", "Sec-Fetch-Mode: cors", "X-Unknown: 1", "User-Agent: two"),
    *("Content-Length: 0", "Content-Length: 3", "Content-Length: -1", "Transfer-Encoding: chunked", "Expect: 100-continue"),
    *("CDN-Loop: fra-1", "Authorization: Basic eA==", "Accept-Encoding: gzip, br", "Empty:", "Tab:\tx", " folded", "no colon"),
    *(
        'Quote: "\\',
        'User-Agent: "quoted\\"',
        "User-Agent: caf\u00e9",
        "Accept:  two  spaces ",
        "Nul: a\x00b",
        "%s: %d",
        "Origin: %(x)s",
    ),
)
TARGETS = (
    *(
        "{path}",
        "{path}?a=b",
        "{path}?",
        "{path}#x",
        "{path}#{hash}",
        "{path}%20",
        "{path}/",
        "/{path}",
        "{path}//",
        "{path}/../tiny",
    ),
    *(
        "{path}%2e",
        "%2fvideos",
        "{path}\x00",
        "{path} ",
        "http://v3fa.cdn.test{path}",
        "*",
        "",
        "{upper}",
        "{path}@x",
        "{path}\u00e9",
    ),
    *("{escaped}", "{path}?grant={token}", "/x{path}", "/{garbage}{path}", "{path}&x", "{path};x", "/" + "a" * 5000),
)
# Age, lifetime, dates and traces; boundaries of parts; how long ago a grant ended.
BLANKED = (
    *(r"(?m)^Age: .*$", r"ttl=-?\d+", r"(?m)^(?i:date|traceparent): .*$"),
    *(r"[0-9a-f]{24}", r"\d+ s ago", r"valid in \d+ s"),
)
SILENCE_S = 0.2
VERSIONS = ("HTTP/1.1",) * 12 + ("HTTP/1.0", "HTTP/1.1 ", "http/1.1", "HTTP/2.0", "HTTP/1.1\r", "")
METHODS = ("GET",) * 16 + ("HEAD", "get", "POST", "OPTIONS", "DELETE", " GET", "GET ", "G\u00cbT", "PURGE")


async def parent_script(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answers by the last segment of the path; what is not named there is not found."""
    name = asked.line.split(" ")[1].split("?")[0].rsplit("/", 1)[-1]
    body = BODIES.get(name, f"body of {name}".encode())
    status = "200 OK" if name in HEADS else "404 Not Found"
    body_sent = b"" if asked.line.startswith("HEAD") else body
    lines = (f"Date: {format_http_date(time.time())}", *HEADS.get(name, ()), f"Content-Length: {len(body)}")
    writer.write(header(status, *lines).decode().encode("latin-1") + body_sent)
    await writer.drain()


def snapshot_for(folder: Path, parent: ScriptedParent) -> Snapshot:
    """A signed site for videos, and an ordinary one that takes every path."""
    folder.mkdir()
    base = with_parents(lab_deployment(folder), [parent.address], signed=True)
    video = base.deployment.properties["video"]
    plain = video.model_copy(update={"hosts": ["www.example.test"], "paths": "/", "signed": False, "cors": False})
    deployment = base.deployment.model_copy(update={"properties": {"video": video, "plain": plain}})
    key = PublishedKey(key_id="lab-1", algorithm="hmac-sha256", state="active", material=KEY.secret)
    return base.model_copy(update={"deployment": deployment, "keys": [key]})


@dataclass(frozen=True, slots=True)
class Edges:
    """`fast` has the lane, `slow` has not."""

    fast: RunningEdge
    slow: RunningEdge
    tokens: dict[str, str]

    async def ask(self, steps: list[bytes]) -> tuple[str, str]:
        """What both say to the same bytes, step by step, each on a connection of its own."""
        async with Talk.with_(self.fast) as fast, Talk.with_(self.slow) as slow:
            for step in steps:
                bodiless = step.lstrip().startswith(b"HEAD")
                answers = [asyncio.create_task(talk.say(step, bodiless)) for talk in (fast, slow)]
                # A request that is not whole yet has no answer: both are silent. If one speaks, the other has time to.
                spoke, _ = await asyncio.wait(answers, timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED)
                if spoke:
                    await asyncio.wait(answers, timeout=10)
                for answer in answers:
                    answer.cancel()
                await asyncio.gather(*answers, return_exceptions=True)
        for edge in (self.fast, self.slow):
            await edge.settled()
        return fast.text(), slow.text()


@asynccontextmanager
async def two_edges(folder: Path) -> AsyncIterator[Edges]:
    # The stores are of one age, so that the same object is fresh in both or in neither.
    async with (
        scripted_parent(parent_script) as parent,
        running_edge(snapshot_for(folder / "a", parent), folder / "a", CacheSettings(fast_lane=True)) as fast,
        running_edge(snapshot_for(folder / "b", parent), folder / "b", CacheSettings(fast_lane=False)) as slow,
    ):
        yield Edges(fast, slow, tokens())


def tokens() -> dict[str, str]:
    def one(**claims: Any) -> str:
        defaults = {"key_id": KEY.key_id, "expires_at": 4_000_000_000, "prefix": VIDEO}
        return mint(Grant(**(defaults | claims)), KEY)

    valid = one()
    return {
        "valid": valid,
        "session": one(session="abc"),
        "here": one(network=ip_network("127.0.0.0/8")),
        "elsewhere": one(network=ip_network("192.0.2.0/24")),
        "expired": one(expires_at=1_000),
        "early": one(not_before=3_999_999_999),
        "other": one(prefix="/videos/abcdefghijE/"),
        "garbage": valid[:-3] + "AAA",
    }


@dataclass(slots=True)
class Talk:
    """One connection, and what came back on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    said: list[bytes] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def with_(cls, edge: RunningEdge) -> AsyncIterator[Talk]:
        talk = cls(*await asyncio.open_connection(edge.address.host, edge.address.port))
        try:
            yield talk
        finally:
            talk.writer.close()
            with contextlib.suppress(ConnectionError):
                await talk.writer.wait_closed()

    async def say(self, step: bytes, bodiless: bool = False) -> None:
        """Sends the bytes and waits for one answer, or for the end of the connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.writer.write(step)
            self.said.append(await one_answer(self.reader, bodiless))

    def text(self) -> str:
        """What was said, with what may differ between two edges blanked."""
        text = b"\n-----\n".join(self.said).decode("latin-1")
        for pattern in BLANKED:
            text = re.sub(pattern, "~", text)
        return text


async def one_answer(reader: asyncio.StreamReader, bodiless: bool) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    if bodiless or length is None or head[9:12] in (b"204", b"304"):
        return head
    return head + await reader.readexactly(int(length[1]))


def lines_of(edge: RunningEdge) -> list[dict[str, object]]:
    """The access log without what differs from run to run."""
    varying = ("time", "trace_id", "first_byte_ms", "duration_ms")
    lines = [json.loads(line) for line in edge.log.getvalue().splitlines()]
    for line in lines:
        if "trace_id" not in line:  # it could not be parsed
            continue
        assert all(name in line for name in varying)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
        assert re.fullmatch(r"[0-9a-f]{32}", line["trace_id"])
    return [{name: member for name, member in line.items() if name not in varying} for line in lines]


def some_request(dice: random.Random, tokens: dict[str, str]) -> bytes:
    """A request: mostly a plain one, else with one or several oddities of target, fields, method or version."""
    signed = dice.random() < 0.7
    name = dice.choice([*HEADS, *("small", "tiny", "large") * 3, "missing"])
    token = dice.choice([*tokens, "valid", "valid", "valid", "valid", "session", "here"]) if signed else ""
    path = f"{VIDEO}h264/{name}"
    full = f"/{tokens[token]}{path}" if signed and dice.random() < 0.93 else path
    form = "{path}" if dice.random() < 0.85 else dice.choice(TARGETS)
    escaped, digest = full.replace("h264", "h%32%364"), "0" * 32
    target = form.format(
        path=full, upper=full.upper(), escaped=escaped, token=tokens["valid"], garbage="A" * 70 + "." + "B" * 43, hash=digest
    )
    fields = list(PLAIN) if signed else ["Host: www.example.test", *PLAIN[1:]]
    for _ in range(dice.choice((0, 0, 0, 0, 1, 2))):
        fields.insert(dice.randint(0, len(fields)), dice.choice(FIELDS))
    if dice.random() < 0.05:
        fields.pop(0)
    if dice.random() < 0.03:
        fields.append(f"Cookie: headwater-grant={tokens['valid']}")
    odd = dice.random() < 0.15
    method, version = (dice.choice(METHODS), dice.choice(VERSIONS)) if odd else ("GET", "HTTP/1.1")
    end = "\n" if dice.random() < 0.01 else "\r\n"
    text = end.join([f"{method} {target} {version}", *fields, "", ""])
    return text.encode("latin-1")


def some_steps(dice: random.Random, tokens: dict[str, str]) -> list[bytes]:
    """What one connection sends: requests one by one, now and then split, glued together, or with bytes between them."""
    requests = [some_request(dice, tokens) for _ in range(dice.randint(2, 6))]
    match dice.randint(0, 29):
        case 0:
            cut = dice.randint(1, len(requests[0]) - 1)
            return [requests[0][:cut], requests[0][cut:], *requests[1:]]
        case 1:
            return [requests[0] + requests[1], *requests[2:]]
        case 2:
            return [b"\r\n" + requests[0], *requests[1:]]
        case 3:
            return [requests[0] + requests[1][:20], requests[1][20:], *requests[2:]]
        case 4:
            return [requests[0], b"\r\n\r\n", *requests[1:]]
        case _:
            return requests


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
        written = edges.fast.log.tell()
        started = time.perf_counter()
        assert await laned(edges.fast, get(token)) == 1
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
