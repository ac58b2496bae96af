"""What the API says of videos, and how it refuses: over HTTP, with a real catalogue and real files."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, update
from yarl import URL

from headwater.rules.names import VideoId, bucket_of, logical_host, video_id_from_bits
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.listening import Tls
from headwater.settings.snapshot import Snapshot
from origin.api.requests import decode_cursor, encode_cursor
from origin.catalogue.engine import writing
from origin.catalogue.schema import renditions, videos
from origin.catalogue.videos import Position
from signer.grant import Grant, VerifyKey, check_use, verify
from tests.support.origin import Creator, RunningApi, running_api

pytestmark = pytest.mark.both_catalogues

MASTER = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="main, URI=none",URI="aac/128k/playlist.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=900000,AUDIO="a"
h264/360p/playlist.m3u8
"""


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


@pytest.fixture
def creator(api: RunningApi) -> Creator:
    return api.creator


async def make_ready(api: RunningApi, video_id: str, duration_s: float = 12.0) -> None:
    """What the transcoder writes when the first rung is playable."""
    key = f"videos/{video_id}/master.m3u8"
    await api.stores.published.put_bytes(key, MASTER.encode(), "application/vnd.apple.mpegurl")
    rung = {"video_id": video_id, "codec": "h264", "kind": "video", "updated_at": 1.0}
    async with writing(api.catalogue) as connection:
        done = {"state": "ready", "ready_at": time.time(), "duration_s": duration_s, "has_poster": 1, "width": 640, "height": 360}
        await connection.execute(update(videos).where(videos.c.id == video_id).values(**done))
        await connection.execute(insert(renditions).values(**rung, rung="360p", state="ready", progress=1.0, height=360))
        await connection.execute(insert(renditions).values(**rung, rung="720p", state="encoding", progress=0.5, height=720))


async def ready_video(api: RunningApi, **options: Any) -> str:
    video_id = await api.creator.upload(b"bytes")
    await make_ready(api, video_id, **options)
    return video_id


def grant_in(url: str, api: RunningApi) -> Grant:
    """The verified grant of a playback URL, which it must also cover."""
    _, token, *path = urlsplit(url).path.split("/")
    keys: dict[Any, VerifyKey] = {key.key_id: key for key in api.stores.ring.published()}
    grant = verify(token, keys)
    check_use(grant, "/" + "/".join(path), ip_address("127.0.0.1"), time.time(), 0)
    return grant


async def test_a_ready_video_plays_from_the_edge_of_the_viewers_region(api: RunningApi, creator: Creator) -> None:
    video_id = await ready_video(api)
    answer = await creator.ask("GET", f"/api/v1/videos/{video_id}/playback?region=ap")
    body = answer.body
    assert (answer.status, body["status"], body["reason"]) == (200, "playable", None)
    assert (body["edge"]["name"], body["edge"]["pop"], body["edge"]["region"]) == ("sin-1", "sin", "ap")
    assert {edge["name"] for edge in body["alternates"]} == {"fra-1", "iad-1"}
    assert urlsplit(body["hls"]).netloc == body["edge"]["address"]
    assert body["hls"].endswith(f"/videos/{video_id}/master.m3u8")
    assert body["dash"].endswith("/manifest.mpd")
    assert body["poster"].endswith("/poster.jpg")
    assert body["storyboard"] is None
    assert grant_in(body["hls"], api).prefix == f"/videos/{video_id}/"


async def test_the_viewers_address_decides_the_region(deployment: Deployment) -> None:
    networks = {**deployment.regions, "us": deployment.regions["us"].model_copy(update={"networks": ["127.0.0.0/24"]})}
    moved = Deployment.model_validate(deployment.model_copy(update={"regions": networks}).model_dump(mode="json"))
    async with running_api(moved) as api:
        video_id = await ready_video(api)
        body = (await api.creator.ask("GET", f"/api/v1/videos/{video_id}/playback")).body
        assert body["edge"]["region"] == "us"


async def test_by_dns_the_urls_name_the_logical_host(api: RunningApi, creator: Creator) -> None:
    video_id = await ready_video(api)
    body = (await creator.ask("GET", f"/api/v1/videos/{video_id}/playback?via=dns")).body
    host = logical_host(bucket_of(VideoId(video_id)), "cdn.test")
    assert body["logical_host"] == host
    assert urlsplit(body["hls"]).hostname == host
    assert urlsplit(body["hls"]).port == int(body["edge"]["address"].rpartition(":")[2])


async def test_a_page_over_tls_gets_urls_over_tls_where_the_edge_has_a_listener(deployment: Deployment) -> None:
    files = {"certificate": "edge.pem", "key": "edge.key"}
    tls = Tls.model_validate({"listen": "127.0.1.1:8443", "certificates": [files]})
    fra = deployment.pops["fra"]
    edge = fra.edges["fra-1"].model_copy(update={"tls": tls, "host": "fra-1.cdn.test"})
    pops = deployment.pops | {"fra": fra.model_copy(update={"edges": {"fra-1": edge}})}
    secured = deployment.model_copy(update={"pops": pops})
    page = secured.origin.model_copy(update={"public_url": "https://videos.test"})
    seen = Snapshot(version=1, deployment=secured.model_copy(update={"origin": page}))
    async with running_api(deployment, snapshot=seen) as api:
        path = f"/api/v1/videos/{await ready_video(api)}/playback"
        by_address = (await api.creator.ask("GET", f"{path}?region=eu")).body["hls"]
        by_name = (await api.creator.ask("GET", f"{path}?region=eu&via=dns")).body["hls"]
        elsewhere = (await api.creator.ask("GET", f"{path}?region=us")).body["hls"]
    assert by_address.startswith("https://fra-1.cdn.test:8443/")
    assert (urlsplit(by_name).scheme, urlsplit(by_name).port) == ("https", 8443)
    assert elsewhere.startswith("http://127.0.2.1:")


async def test_an_avoided_edge_is_not_named_unless_all_are_avoided(api: RunningApi, creator: Creator) -> None:
    video_id = await ready_video(api)
    path = f"/api/v1/videos/{video_id}/playback?region=eu"
    body = (await creator.ask("GET", f"{path}&avoid=fra-1")).body
    assert body["edge"]["name"] != "fra-1"
    assert "fra-1" not in [edge["name"] for edge in body["alternates"]]
    body = (await creator.ask("GET", f"{path}&avoid=fra-1&avoid=iad-1&avoid=sin-1")).body
    assert body["edge"]["name"] == "fra-1"


async def test_a_drained_or_unhealthy_edge_comes_last_or_never(deployment: Deployment) -> None:
    snapshot = Snapshot(version=2, deployment=deployment, health={"fra-1": "down"})
    async with running_api(deployment, snapshot=snapshot) as api:
        video_id = await ready_video(api)
        body = (await api.creator.ask("GET", f"/api/v1/videos/{video_id}/playback?region=eu")).body
        assert body["edge"]["name"] != "fra-1"


async def test_a_grant_outlives_the_video_for_who_begins_within_its_lifetime(api: RunningApi, creator: Creator) -> None:
    video_id = await ready_video(api, duration_s=7200.0)
    before = time.time()
    body = (await creator.ask("GET", f"/api/v1/videos/{video_id}/playback")).body
    assert body["expires_at"] >= before + api.deployment.signing.lifetime + 7200
    assert grant_in(body["hls"], api).expires_at == body["expires_at"]


async def test_a_bound_grant_names_the_viewers_network(deployment: Deployment) -> None:
    signing = deployment.signing.model_copy(update={"bind_network": True})
    async with running_api(deployment.model_copy(update={"signing": signing})) as api:
        video_id = await ready_video(api)
        body = (await api.creator.ask("GET", f"/api/v1/videos/{video_id}/playback")).body
        assert str(grant_in(body["hls"], api).network) == "127.0.0.0/24"


async def test_a_video_says_why_it_does_not_play_yet(creator: Creator) -> None:
    begun = await creator.begin(5)
    path = f"/api/v1/videos/{begun.body['video_id']}"
    body = (await creator.ask("GET", f"{path}/playback")).body
    assert (body["status"], body["hls"]) == ("uploading", None)
    await creator.put_all(begun.body["upload"]["parts"], b"bytes")
    await creator.complete(begun.body["video_id"])
    body = (await creator.ask("GET", f"{path}/playback")).body
    assert (body["status"], body["hls"]) == ("processing", None)
    assert "transcoded" in body["reason"]
    assert (await creator.ask("GET", f"{path}/stream")).problem == "not-playable"


async def test_a_failed_video_tells_why(api: RunningApi, creator: Creator) -> None:
    video_id = await creator.upload(b"no video")
    failed = {"state": "failed", "failure_kind": "not-a-video", "failure_detail": "the file is text"}
    async with writing(api.catalogue) as connection:
        await connection.execute(update(videos).where(videos.c.id == video_id).values(**failed))
    body = (await creator.ask("GET", f"/api/v1/videos/{video_id}/playback")).body
    assert (body["status"], body["reason"]) == ("failed", "not-a-video: the file is text")
    shown = (await creator.ask("GET", f"/api/v1/videos/{video_id}")).body
    assert shown["failure"] == {"kind": "not-a-video", "detail": "the file is text"}
    assert shown["manifests"] is None
    answer = await creator.ask("GET", f"/api/v1/videos/{video_id}/stream")
    assert (answer.status, "the file is text" in answer.body["detail"]) == (409, True)


async def test_the_stream_is_the_master_manifest_with_signed_absolute_references(api: RunningApi, creator: Creator) -> None:
    video_id = await ready_video(api)
    answer = await creator.ask("GET", f"/api/v1/videos/{video_id}/stream?region=us")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    media, rung = re.findall(r"http://[^\"\s]+", answer.body)
    assert media.endswith(f"/videos/{video_id}/aac/128k/playlist.m3u8")
    assert rung.endswith(f"/videos/{video_id}/h264/360p/playlist.m3u8")
    assert grant_in(rung, api) == grant_in(media, api)
    prefix = rung.removesuffix("h264/360p/playlist.m3u8")
    assert answer.body.replace(prefix, "") == MASTER


async def test_a_ready_video_without_its_manifest_is_a_problem_not_an_empty_playlist(api: RunningApi, creator: Creator) -> None:
    video_id = await ready_video(api)
    await api.stores.published.delete(f"videos/{video_id}/master.m3u8")
    answer = await creator.ask("GET", f"/api/v1/videos/{video_id}/stream")
    assert (answer.status, answer.problem) == (503, "manifest-missing")


async def test_a_video_shows_its_renditions_and_mean_progress(api: RunningApi, creator: Creator) -> None:
    video_id = await ready_video(api)
    body = (await creator.ask("GET", f"/api/v1/videos/{video_id}")).body
    assert [(one["rung"], one["state"], one["progress"]) for one in body["renditions"]] == [
        ("360p", "ready", 1.0), ("720p", "encoding", 0.5)
    ]  # fmt: skip
    assert (body["progress"], body["status"]) == (0.75, "ready")
    assert body["manifests"]["hls"].endswith("master.m3u8")


async def test_pages_of_the_list_are_newest_first_and_hold_every_video_once(api: RunningApi, creator: Creator) -> None:
    # The id decides where times are equal.
    said = {"title": "t", "tags": [], "filename": "f", "content_type": "a/b", "size_bytes": 1}
    rows: list[dict[str, Any]] = [
        {**said, "id": video_id_from_bits(bytes([7, number] * 4)), "state": "uploading", "created_at": when, "updated_at": when}
        for number, when in enumerate([3.0, 1.0, 1.0, 2.5, 2.5, 2.5, 4.0, 0.5, 1.0])
    ]
    async with writing(api.catalogue) as connection:
        await connection.execute(insert(videos), rows)
    seen: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await creator.ask("GET", "/api/v1/videos", params=query)).body
        assert len(page["videos"]) <= 2
        seen += page["videos"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    expected = sorted(rows, key=lambda row: (row["created_at"], row["id"]), reverse=True)
    assert [video["video_id"] for video in seen] == [row["id"] for row in expected]
    assert all("manifests" not in video for video in seen)


@given(st.floats(min_value=1e-3, max_value=1e11), st.binary(min_size=8, max_size=8))
def test_a_cursor_reads_back_to_the_same_place(created_at: float, bits: bytes) -> None:
    position = Position(created_at, video_id_from_bits(bits))
    assert decode_cursor(encode_cursor(position)) == position


@pytest.mark.parametrize(
    ("path", "status", "problem"),
    [
        ("/api/v1/videos/short", 404, "video-not-found"),
        ("/api/v1/videos/AAAAAAAAAAA", 404, "video-not-found"),
        ("/api/v1/videos/..%2F..%2Fetc", 404, "video-not-found"),
        ("/api/v1/videos/%00%00%00%00%00%00%00%00%00%00%00/playback", 404, "video-not-found"),
        ("/api/v1/videos/AAAAAAAAAAA/upload", 404, "video-not-found"),
        ("/api/v1/videos/AAAAAAAAAAA/nothing", 404, "not-found"),
        ("/api/v1/videos?cursor=bm9uZQ", 422, "invalid-request"),
        ("/api/v1/videos?cursor=%C3%BC", 422, "invalid-request"),
        ("/api/v1/videos?limit=0", 422, "invalid-request"),
        ("/api/v1/videos?limit=1e3", 422, "invalid-request"),
        ("/api/v1/videos?region=moon", 422, "invalid-request"),
        ("/api/v1/videos?via=pigeon", 422, "invalid-request"),
    ],
)
async def test_paths_and_queries_that_name_nothing_are_problems(creator: Creator, path: str, status: int, problem: str) -> None:
    answer = await creator.ask("GET", URL(path, encoded=True))
    assert (answer.status, answer.problem) == (status, problem)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (b"", 400, "not-json"),
        (b"{", 400, "not-json"),
        (b"\xff\xfe", 400, "not-json"),
        (b'{"title": "\\ud800"}', 400, "not-json"),
        (b"[]", 422, "invalid-request"),
        (b"null", 422, "invalid-request"),
        (b'{"title":"a","filename":"a","size":"1"}', 422, "invalid-request"),
        (b'{"title":"a","filename":"a","size":1.5}', 422, "invalid-request"),
        (b'{"title":"a","filename":"a","size":-1}', 422, "invalid-request"),
        (b'{"title":"a","filename":"a","size":99999999999999999999}', 422, "invalid-request"),
        (b'{"title":" ","filename":"a","size":1}', 422, "invalid-request"),
        (b'{"title":"a\\u0000","filename":"a","size":1}', 422, "invalid-request"),
        (b'{"title":"a","filename":"a\\nb","size":1}', 422, "invalid-request"),
        (b'{"title":"a","filename":"a","size":1,"content_type":"text/html\\r\\nX: y"}', 422, "invalid-request"),
        (b'{"title":"a","filename":"a","size":1,"part_size":1}', 422, "part-size-out-of-bounds"),
        (b"[" * 60000, 400, "not-json"),
        (b" " * 70000, 413, "body-too-large"),
    ],
)
async def test_a_body_that_cannot_be_used_is_refused_and_nothing_begins(
    creator: Creator, body: bytes, status: int, problem: str
) -> None:
    answer = await creator.ask("POST", "/api/v1/videos", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.problem) == (status, problem), answer.body
    assert (await creator.ask("GET", "/api/v1/videos")).body["videos"] == []


async def test_every_wrong_field_is_named_at_once(creator: Creator) -> None:
    before = value("headwater_api_problems_total", problem="invalid-request")
    answer = await creator.ask("POST", "/api/v1/videos", json={"titel": "x", "size": "big", "tags": ["ok", 7], "filename": "f"})
    reasons = {error["field"]: error["reason"] for error in answer.body["errors"]}
    assert set(reasons) == {"title", "titel", "size", "tags.1"}
    assert "known are title, description" in reasons["titel"]
    assert value("headwater_api_problems_total", problem="invalid-request") == before + 1


async def test_a_form_of_another_site_cannot_begin_an_upload(creator: Creator) -> None:
    answer = await creator.ask("POST", "/api/v1/videos", data=b'{"title":"a"}', headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.problem) == (415, "not-json")


async def test_a_malformed_idempotency_key_is_refused(creator: Creator) -> None:
    assert (await creator.begin(5, key="k" * 256)).problem == "idempotency-key-malformed"
    assert (await creator.begin(5, key="two words")).problem == "idempotency-key-malformed"


async def test_requests_are_counted_by_route_and_carry_their_trace(api: RunningApi, creator: Creator) -> None:
    labels = {"method": "GET", "route": "/api/v1/videos/{video_id}", "status": "404"}
    before = value("headwater_api_requests_total", **labels)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await creator.ask("GET", "/api/v1/videos/AAAAAAAAAAA", headers={"traceparent": trace})
    assert answer.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert value("headwater_api_requests_total", **labels) == before + 1


async def test_a_mistake_of_ours_is_a_problem_with_a_trace_id(api: RunningApi, creator: Creator) -> None:
    """The catalogue's tables go away under the API."""
    video_id = await ready_video(api)
    async with writing(api.catalogue) as connection:
        await connection.exec_driver_sql("DROP TABLE renditions")
    answer = await creator.ask("GET", f"/api/v1/videos/{video_id}")
    assert (answer.status, answer.problem) == (503, "catalogue-failed")
    assert "renditions" not in answer.body["detail"]
