"""The byte server on real sockets, asked as shields ask."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
import pytest
import structlog
from aiohttp import web

from headwater.runtime.httpsite import serve_handler
from headwater.runtime.metrics import value
from headwater.runtime.node import NodeContext
from headwater.runtime.nodetoken import NODE_HEADER, read_token, token_digest
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from origin.byteserver.accesslog import AccessLog
from origin.byteserver.answers import plan_answer
from origin.byteserver.handler import ByteHandler
from origin.byteserver.service import byteserver_node
from origin.objects.interface import ObjectInfo
from origin.tiers.open import open_tiers
from origin.tiers.store import TieredStore

VIDEO = "videos/AAAAAAAAAAA"
SEGMENT = f"{VIDEO}/h264/360p/segment_00000.m4s"
BIG = f"{VIDEO}/h264/360p/segment_00001.m4s"
MANIFEST = f"{VIDEO}/master.m3u8"
SMALL_BODY = bytes(range(256)) * 40
BIG_BODY = hashlib.shake_256(b"big").digest(3_000_001)
LOG = structlog.get_logger("test")


@dataclass
class Served:
    """A byte server and what to ask it with."""

    url: str
    objects: TieredStore
    log: io.StringIO
    access_log: AccessLog
    session: aiohttp.ClientSession
    reads: list[str]

    @contextlib.asynccontextmanager
    async def ask(self, path: str, method: str = "GET", **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        fields = {name.replace("_", "-"): content for name, content in headers.items()}
        async with self.session.request(method, self.url + path, headers=fields) as response:
            yield response

    def logged(self) -> list[dict[str, object]]:
        self.access_log.flush()
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def snapshot_of(deployment: Deployment) -> Snapshot:
    nodes = ("shield-1", "shield-2", "fra-1", "control")
    return Snapshot(
        version=7,
        deployment=deployment,
        node_tokens={node: token_digest(read_token(deployment.data, node)) for node in nodes},
    )


@pytest.fixture
async def served(deployment: Deployment) -> AsyncIterator[Served]:
    objects = open_tiers(deployment)
    await objects.put_bytes(SEGMENT, SMALL_BODY, "video/iso.segment")
    await objects.put_bytes(BIG, BIG_BODY, "video/iso.segment")
    await objects.put_bytes(MANIFEST, b"#EXTM3U\n", "application/vnd.apple.mpegurl")
    out = io.StringIO()
    access_log = AccessLog(out)
    snapshot = snapshot_of(deployment)
    reads: list[str] = []
    handler = ByteHandler(objects, lambda: snapshot, reads.append, access_log, LOG, "origin-bytes")
    address = deployment.origin.bytes.listen
    headers = {NODE_HEADER: read_token(deployment.data, "shield-1")}
    async with serve_handler(handler, address), aiohttp.ClientSession(headers=headers) as session:
        yield Served(address.url, objects, out, access_log, session, reads)


async def test_a_segment_comes_whole_with_its_digest_and_may_be_kept_for_ever(served: Served) -> None:
    digest = hashlib.sha256(SMALL_BODY)
    async with served.ask(f"/{SEGMENT}") as response:
        assert response.status == 200
        assert await response.read() == SMALL_BODY
        assert response.headers["ETag"] == f'"{digest.hexdigest()}"'
        assert response.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Content-Type"] == "video/iso.segment"
        assert response.headers["Accept-Ranges"] == "bytes"
    assert served.reads == [SEGMENT]


async def test_a_manifest_that_was_replaced_a_moment_ago_is_never_served_stale(served: Served) -> None:
    """It is likely to grow, and a player waits at its end for the next version."""
    async with served.ask(f"/{MANIFEST}") as response:
        assert response.headers["Cache-Control"] == "public, max-age=1"


def test_a_manifest_that_rests_may_be_kept_for_two_seconds() -> None:
    info = ObjectInfo(MANIFEST, 8, "0" * 64, "application/vnd.apple.mpegurl", 1000.0)
    answers = {now: plan_answer("GET", info, {}, now).headers["Cache-Control"] for now in (1000.0, 1059.9, 1060.0, 9999.0)}
    rests = "public, max-age=2, stale-while-revalidate=10"
    assert answers == {1000.0: "public, max-age=1", 1059.9: "public, max-age=1", 1060.0: rests, 9999.0: rests}


async def test_a_long_body_is_streamed_whole(served: Served) -> None:
    async with served.ask(f"/{BIG}") as response:
        assert response.headers["Content-Length"] == str(len(BIG_BODY))
        assert await response.read() == BIG_BODY


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-", 5, len(BIG_BODY) - 1),
        ("bytes=-7", len(BIG_BODY) - 7, len(BIG_BODY) - 1),
        ("bytes=524287-1600000", 524287, 1600000),
        ("bytes=3000000-9999999", 3000000, 3000000),
    ],
)
async def test_one_range_is_answered_by_exactly_its_bytes(served: Served, asked: str, first: int, last: int) -> None:
    async with served.ask(f"/{BIG}", Range=asked) as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(BIG_BODY)}"
        assert await response.read() == BIG_BODY[first : last + 1]


async def test_ranges_that_cannot_be_had_or_need_not_be_honoured(served: Served) -> None:
    async with served.ask(f"/{SEGMENT}", Range="bytes=999999-") as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{len(SMALL_BODY)}"
    for asked in ("bytes=0-1,5-6", "bytes=9-3", "lines=1-2"):
        async with served.ask(f"/{SEGMENT}", Range=asked) as response:
            assert (response.status, await response.read()) == (200, SMALL_BODY)


async def test_if_range_with_another_validator_gets_the_whole_object(served: Served) -> None:
    etag = f'"{hashlib.sha256(SMALL_BODY).hexdigest()}"'
    async with served.ask(f"/{SEGMENT}", Range="bytes=1-2", If_Range=etag) as response:
        assert (response.status, await response.read()) == (206, SMALL_BODY[1:3])
    async with served.ask(f"/{SEGMENT}", Range="bytes=1-2", If_Range='"other"') as response:
        assert (response.status, await response.read()) == (200, SMALL_BODY)


async def test_a_caller_that_has_it_already_gets_304(served: Served) -> None:
    etag = f'"{hashlib.sha256(SMALL_BODY).hexdigest()}"'
    async with served.ask(f"/{SEGMENT}") as response:
        modified = response.headers["Last-Modified"]
    fields: list[Mapping[str, str]] = [
        {"If-None-Match": etag},
        {"If-None-Match": f'"x", W/{etag}'},
        {"If-Modified-Since": modified},
    ]
    for asked in fields:
        async with served.session.get(f"{served.url}/{SEGMENT}", headers=asked) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert response.headers["ETag"] == etag
    async with served.ask(f"/{SEGMENT}", If_Match='"x"') as response:
        assert response.status == 412


async def test_head_says_what_get_would_say_without_the_body(served: Served) -> None:
    async with served.ask(f"/{BIG}", "HEAD", Range="bytes=0-1") as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(len(BIG_BODY))
        assert await response.read() == b""


async def test_what_is_not_there_is_a_404_that_caches_forget_after_a_second(served: Served) -> None:
    async with served.ask(f"/{VIDEO}/h264/360p/segment_00009.m4s") as response:
        assert response.status == 404
        assert response.headers["Cache-Control"] == "public, max-age=1"
        assert (await response.json(content_type=None))["type"] == "urn:headwater:problem:not-found"


async def raw(deployment: Deployment, target: str, method: str = "GET", token: str | None = None) -> bytes:
    """The answer's bytes for a request target that no client library would send."""
    address = deployment.origin.bytes.listen
    reader, writer = await asyncio.open_connection(address.host, address.port)
    token = token or read_token(deployment.data, "shield-2")
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{NODE_HEADER}: {token}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/etc/passwd",
        f"/{VIDEO}/../../../secrets/part-urls.key",
        f"/{VIDEO}/%2e%2e/master.m3u8",
        f"/{VIDEO}//master.m3u8",
        f"//{MANIFEST}",
        f"/{VIDEO}/.hidden",
        f"/{VIDEO}/master%2em3u8",
        f"/{VIDEO}/",
        f"/{VIDEO}/master.m3u8/",
        f"/{VIDEO}/" + "a" * 4000,
        f"http://elsewhere/{MANIFEST}",
    ],
)
async def test_odd_paths_are_nothing(served: Served, deployment: Deployment, target: str) -> None:
    assert (await raw(deployment, target)).startswith(b"HTTP/1.1 404 ")


async def test_other_methods_are_refused_by_name(served: Served, deployment: Deployment) -> None:
    answer = await raw(deployment, f"/{MANIFEST}", "DELETE")
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, HEAD" in answer
    async with served.ask(f"/{MANIFEST}") as response:
        assert response.status == 200


@pytest.mark.parametrize("node", ["fra-1", "control", "stranger"])
async def test_only_shields_are_answered(served: Served, deployment: Deployment, node: str) -> None:
    before = value("headwater_origin_request_ends_total", outcome="node-unknown")
    answer = await raw(deployment, f"/{MANIFEST}", token=read_token(deployment.data, node))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"urn:headwater:problem:node-unknown" in answer
    assert b"EXTM3U" not in answer
    assert value("headwater_origin_request_ends_total", outcome="node-unknown") == before + 1


async def test_log_and_metrics_tell_the_trace_the_tier_and_the_bytes(served: Served) -> None:
    before = value("headwater_origin_requests_total", status="2xx", tier="hot")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with served.ask(f"/{SEGMENT}", traceparent=f"00-{trace_id}-00f067aa0ba902b7-01") as response:
        await response.read()
        assert response.headers["traceparent"].split("-")[1] == trace_id
    line = served.logged()[-1]
    expected = {
        "trace_id": trace_id, "peer": "shield-1", "status": 200, "bytes": len(SMALL_BODY), "tier": "hot",
        "outcome": "done", "method": "GET", "path": f"/{SEGMENT}", "node": "origin-bytes",
    }  # fmt: skip
    assert expected.items() <= line.items()
    assert value("headwater_origin_requests_total", status="2xx", tier="hot") == before + 1


async def test_an_object_that_is_short_on_disk_is_never_served(served: Served, deployment: Deployment) -> None:
    blob = deployment.data / "objects/hot/blobs" / hashlib.sha256(BIG_BODY).hexdigest()[:2] / hashlib.sha256(BIG_BODY).hexdigest()
    blob.chmod(0o644)
    os.truncate(blob, 1000)
    async with served.ask(f"/{BIG}") as response:
        assert response.status == 503
        assert (await response.json(content_type=None))["type"] == "urn:headwater:problem:object-unreadable"


async def test_a_body_that_breaks_off_is_cut_never_ended(served: Served, deployment: Deployment) -> None:
    """The blob shrinks while it is sent: the shield must see a broken connection, not a short object."""
    digest = hashlib.sha256(BIG_BODY).hexdigest()
    blob = deployment.data / "objects/hot/blobs" / digest[:2] / digest
    address = deployment.origin.bytes.listen
    huge = f"{VIDEO}/h264/360p/segment_00002.m4s"
    body = BIG_BODY * 12
    info = await served.objects.put_bytes(huge, body, "video/iso.segment")
    blob = blob.parent.parent / info.sha256[:2] / info.sha256
    blob.chmod(0o644)
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=2**16)
    token = read_token(deployment.data, "shield-1")
    writer.write(f"GET /{huge} HTTP/1.1\r\nHost: x\r\n{NODE_HEADER}: {token}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    os.truncate(blob, len(body) - 1)
    received = 0
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(2**20):
            received += len(chunk)
    assert received < len(body)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_the_node_serves_by_its_last_snapshot_when_control_is_away(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.runtime.node.FIRST_SNAPSHOT_S", 0.05)
    context = NodeContext("origin-bytes", deployment, LOG)
    context.folder.mkdir(parents=True)
    (context.folder / "snapshot.json").write_text(snapshot_of(deployment).model_dump_json())
    await open_tiers(deployment).put_bytes(MANIFEST, b"#EXTM3U\n", "application/vnd.apple.mpegurl")
    async with byteserver_node(context), aiohttp.ClientSession() as session:
        address = deployment.origin.bytes
        token = read_token(deployment.data, "shield-1")
        async with session.get(f"{address.listen.url}/{MANIFEST}", headers={NODE_HEADER: token}) as response:
            assert (response.status, await response.read()) == (200, b"#EXTM3U\n")
        async with session.get(f"{address.listen.url}/{MANIFEST}") as response:
            assert response.status == 403
        async with session.get(f"{address.admin.url}/healthz") as health:
            assert health.status == 200
        async with session.get(f"{address.admin.url}/metrics") as metrics:
            assert "headwater_origin_requests_total" in await metrics.text()


async def test_the_node_serves_as_soon_as_control_names_its_shields(deployment: Deployment) -> None:
    snapshot = snapshot_of(deployment)
    closing = asyncio.Event()

    async def control(request: web.BaseRequest) -> web.Response:
        if int(request.query["after"]) < snapshot.version:
            return web.Response(text=snapshot.model_dump_json(), content_type="application/json")
        await closing.wait()
        return web.Response(status=204)

    context = NodeContext("origin-bytes", deployment, LOG)
    context.folder.mkdir(parents=True)
    await open_tiers(deployment).put_bytes(MANIFEST, b"#EXTM3U\n", "application/vnd.apple.mpegurl")
    async with (
        serve_handler(control, deployment.control.listen, drain_s=0.1),
        byteserver_node(context),
        aiohttp.ClientSession(headers={NODE_HEADER: read_token(deployment.data, "shield-2")}) as session,
        session.get(f"{deployment.origin.bytes.listen.url}/{MANIFEST}") as response,
    ):
        closing.set()
        assert response.status == 200
