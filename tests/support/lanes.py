"""Two edges that are asked the same things, one with the fast lane and one without; and what they are asked, drawn at random."""

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

from headwater.rules.httpdate import format_http_date
from headwater.settings.cache import CacheSettings
from headwater.settings.snapshot import PublishedKey, Snapshot
from signer.grant import Algorithm, Grant, KeyId, SigningKey, mint
from tests.support.deployments import lab_deployment
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.scriptedparent import Asked, ScriptedParent, header, scripted_parent

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
