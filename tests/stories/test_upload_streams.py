"""Uploads as a stream: tus, Google's protocol and the IETF draft, one request at a time, over a real catalogue and real files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from headwater.rules.names import VideoId
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import api_tokens, jobs, uploads, videos
from origin.uploads.creator import ANYBODY
from origin.uploads.streams import Append, Streams
from tests.support.deployments import lab_deployment
from tests.support.origin import Answer, RunningApi, running_api
from tests.support.waiting import until

PART = 256 * 1024
CLIP = random.Random(5).randbytes(3 * PART + 1000)
TUS = {"Tus-Resumable": "1.0.0"}
STREAM = {**TUS, "Content-Type": "application/offset+octet-stream"}
PARTIAL = {"Content-Type": "application/partial-upload", "Upload-Draft-Interop-Version": "8"}


@pytest.fixture
def deployment(tmp_path: Any) -> Deployment:
    """Small parts, so that a small file has many."""
    return with_uploads(lab_deployment(tmp_path), part_size=PART)


def with_uploads(deployment: Deployment, **changed: Any) -> Deployment:
    limits = deployment.origin.uploads.model_copy(update=changed)
    return deployment.model_copy(update={"origin": deployment.origin.model_copy(update={"uploads": limits})})


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


def encoded(**said: str) -> str:
    return ",".join(f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in said.items())


async def created(api: RunningApi, size: int = len(CLIP), **headers: str) -> str:
    """The path of a new tus upload."""
    answer = await api.creator.ask("POST", "/upload/tus", headers={**TUS, "Upload-Length": str(size), **headers})
    assert answer.status == 201, answer
    return path_of(answer)


def path_of(answer: Answer) -> str:
    return "/" + answer.headers["Location"].split("/", 3)[3]


async def patch(api: RunningApi, path: str, offset: int, body: bytes, **headers: str) -> Answer:
    return await api.creator.ask(
        "PATCH", path, data=io.BytesIO(body), headers={**STREAM, "Upload-Offset": str(offset), **headers}
    )


async def offset_of(api: RunningApi, path: str, **headers: str) -> int:
    answer = await api.creator.ask("HEAD", path, headers={**TUS, **headers})
    assert answer.status in (200, 204), answer
    return int(answer.headers["Upload-Offset"])


async def master_of(api: RunningApi, video_id: str) -> bytes:
    async with reading(api.catalogue) as connection:
        key = (await connection.execute(select(jobs.c.master_key).where(jobs.c.video_id == video_id))).scalar_one()
    return b"".join([chunk async for chunk in api.stores.masters.read(key)])


def id_of(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def head_of(request: str, fields: dict[str, str]) -> bytes:
    return f"{request} HTTP/1.1\r\n{''.join(f'{name}: {text}' + chr(13) + chr(10) for name, text in fields.items())}\r\n".encode()


async def broken_off(api: RunningApi, method: str, path: str, body: bytes, sent: int, headers: dict[str, str]) -> None:
    """A request whose connection dies after `sent` bytes of its body arrived."""
    url = api.deployment.origin.api.listen
    reader, writer = await asyncio.open_connection(url.host, url.port)
    fields = {"Host": str(url), "Authorization": f"Bearer {api.token.text}", "Content-Length": str(len(body)), **headers}
    writer.write(head_of(f"{method} {path}", fields) + body[:sent])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    del reader


# tus


async def test_a_file_arrives_by_tus_in_requests_of_any_size_and_becomes_a_video(api: RunningApi) -> None:
    path = await created(
        api, **{"Upload-Metadata": encoded(filename="Grüße.mp4", filetype="video/mp4", description="By the sea")}
    )
    offset = 0
    for size in (1, 99, PART - 100, PART + 7, 50, len(CLIP)):
        answer = await patch(api, path, offset, CLIP[offset : offset + size])
        offset = min(offset + size, len(CLIP))
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(offset))
        assert await offset_of(api, path) == offset
    assert await master_of(api, id_of(path)) == CLIP
    video = (await api.creator.ask("GET", f"/api/v1/videos/{id_of(path)}")).body
    assert (video["title"], video["filename"], video["description"], video["status"]) == (
        "Grüße", "Grüße.mp4", "By the sea", "processing"
    )  # fmt: skip
    async with reading(api.catalogue) as connection:
        row = (await connection.execute(select(uploads))).mappings().one()
    assert (row["sha256"], row["dialect"]) == (hashlib.sha256(CLIP).hexdigest(), "tus")


async def test_what_a_broken_connection_brought_is_kept_to_the_byte_peertube_4969(api: RunningApi) -> None:
    """PeerTube #4969, #7087: an upload that dies behind a proxy goes on where it was, not from zero."""
    path = await created(api)
    before = value("headwater_uploads_appends_total", outcome="cut-off")
    sent = 2 * PART + 333
    await broken_off(api, "PATCH", path, CLIP, sent, {**STREAM, "Upload-Offset": "0"})
    await until(lambda: value("headwater_uploads_appends_total", outcome="cut-off") > before)
    assert await offset_of(api, path) == sent
    assert (await patch(api, path, sent, CLIP[sent:])).status == 204
    assert await master_of(api, id_of(path)) == CLIP


async def test_who_comes_back_by_another_connection_does_not_wait_for_the_old_one_peertube_7087(api: RunningApi) -> None:
    """The old connection is half open: the server has not noticed yet that nothing comes any more."""
    path = await created(api)
    half_sent = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield CLIP[: PART + 5]
        half_sent.set()
        await asyncio.Event().wait()

    hanging = asyncio.create_task(patch_with(api, path, slowly()))
    await half_sent.wait()
    async with asyncio.timeout(10):
        offset = await offset_of(api, path)
    assert offset <= PART + 5  # what the old request still held in memory was never acknowledged
    assert (await patch(api, path, offset, CLIP[offset:])).status == 204
    assert (await hanging).problem == "upload-interrupted"
    assert await master_of(api, id_of(path)) == CLIP
    await until(lambda: not lingering())


def lingering() -> list[asyncio.Task[Any]]:
    """The server's tasks that wait for the rest of bodies which were answered before their end."""
    tasks = [task for task in asyncio.all_tasks() if "RequestHandler.start" in repr(task)]
    return [task for task in tasks if (frame := task.get_stack(limit=1)) and "end_t" in frame[0].f_locals]


async def patch_with(api: RunningApi, path: str, body: AsyncIterator[bytes]) -> Answer:
    headers = {**STREAM, "Upload-Offset": "0", "Content-Length": str(len(CLIP))}
    return await api.creator.ask("PATCH", path, data=body, headers=headers)


async def test_an_offset_that_is_not_the_stored_one_changes_nothing_and_is_told(api: RunningApi) -> None:
    path = await created(api)
    await patch(api, path, 0, CLIP[:1000])
    for wrong in (0, 999, 1001):
        answer = await patch(api, path, wrong, b"x" * 10)
        assert (answer.status, answer.problem, answer.body["offset"]) == (409, "offset-differs", 1000)
    assert await offset_of(api, path) == 1000


async def test_a_body_with_a_wrong_checksum_leaves_nothing_even_when_it_fills_parts(api: RunningApi) -> None:
    path = await created(api)
    good = base64.b64encode(hashlib.sha1(CLIP[:2000], usedforsecurity=False).digest()).decode()
    assert (await patch(api, path, 0, CLIP[:2000], **{"Upload-Checksum": f"sha1 {good}"})).status == 204
    answer = await patch(api, path, 2000, CLIP[2000:], **{"Upload-Checksum": f"sha1 {good}"})
    assert (answer.status, answer.problem) == (460, "checksum-differs")
    assert await offset_of(api, path) == 2000
    folder = api.deployment.data / "objects" / "masters" / "uploads"
    assert len([file for file in folder.rglob("*") if file.is_file()]) == 1
    right = base64.b64encode(hashlib.sha256(CLIP[2000:]).digest()).decode()
    assert (await patch(api, path, 2000, CLIP[2000:], **{"Upload-Checksum": f"sha256 {right}"})).status == 204
    assert await master_of(api, id_of(path)) == CLIP


async def test_a_creation_may_bring_the_bytes_and_tell_the_length_later(api: RunningApi) -> None:
    whole = await api.creator.ask("POST", "/upload/tus/", data=CLIP, headers={**STREAM, "Upload-Length": str(len(CLIP))})
    assert (whole.status, whole.headers["Upload-Offset"]) == (201, str(len(CLIP)))
    assert await master_of(api, id_of(path_of(whole))) == CLIP

    begun = await api.creator.ask("POST", "/upload/tus", headers={**TUS, "Upload-Defer-Length": "1"})
    path = path_of(begun)
    assert (await api.creator.ask("HEAD", path, headers=TUS)).headers["Upload-Defer-Length"] == "1"
    await patch(api, path, 0, CLIP[:PART])
    assert (await patch(api, path, PART, CLIP[PART:], **{"Upload-Length": str(len(CLIP))})).status == 204
    assert await master_of(api, id_of(path)) == CLIP


async def test_pieces_sent_side_by_side_become_one_video_and_are_shown_to_nobody(api: RunningApi) -> None:
    cut = PART + 77
    paths = [await created(api, size, **{"Upload-Concat": "partial"}) for size in (cut, len(CLIP) - cut)]
    await asyncio.gather(patch(api, paths[0], 0, CLIP[:cut]), patch(api, paths[1], 0, CLIP[cut:]))
    assert (await api.creator.ask("GET", "/api/v1/videos")).body["videos"] == []
    assert (await api.creator.ask("GET", f"/api/v1/videos/{id_of(paths[0])}")).status == 404

    headers = {**TUS, "Upload-Concat": "final;" + " ".join(paths), "Upload-Metadata": encoded(filename="joined.mp4")}
    final = await api.creator.ask("POST", "/upload/tus", headers=headers)
    assert final.status == 201, final
    assert await master_of(api, id_of(path_of(final))) == CLIP
    head = await api.creator.ask("HEAD", path_of(final), headers=TUS)
    assert (head.headers["Upload-Length"], head.headers["Upload-Concat"]) == (str(len(CLIP)), headers["Upload-Concat"])
    assert (await api.creator.ask("HEAD", paths[0], headers=TUS)).status == 404
    async with reading(api.catalogue) as connection:
        assert len((await connection.execute(select(videos.c.id))).all()) == 1


async def test_a_piece_may_stand_in_a_video_twice(api: RunningApi) -> None:
    path = await created(api, 100, **{"Upload-Concat": "partial"})
    await patch(api, path, 0, CLIP[:100])
    final = await api.creator.ask("POST", "/upload/tus", headers={**TUS, "Upload-Concat": f"final;{path} {path}"})
    assert final.status == 201, final
    assert await master_of(api, id_of(path_of(final))) == 2 * CLIP[:100]


async def test_pieces_that_are_not_whole_cannot_be_joined(api: RunningApi) -> None:
    path = await created(api, 10, **{"Upload-Concat": "partial"})
    await patch(api, path, 0, b"half")
    answer = await api.creator.ask("POST", "/upload/tus", headers={**TUS, "Upload-Concat": f"final;{path}"})
    assert (answer.status, answer.problem) == (409, "not-concatenable")


async def test_a_terminated_upload_is_gone_with_its_bytes(api: RunningApi) -> None:
    path = await created(api)
    await patch(api, path, 0, CLIP[:PART])
    assert (await api.creator.ask("DELETE", path, headers=TUS)).status == 204
    assert (await api.creator.ask("HEAD", path, headers=TUS)).status == 404
    assert (await patch(api, path, PART, CLIP[PART:])).problem == "video-not-found"
    assert not list((api.deployment.data / "objects" / "masters" / "uploads").iterdir())


async def test_an_unfinished_upload_says_when_it_expires(api: RunningApi) -> None:
    path = await created(api)
    assert "GMT" in (await api.creator.ask("HEAD", path, headers=TUS)).headers["Upload-Expires"]


async def test_tus_says_what_it_can_to_pages_of_other_sites_too(api: RunningApi) -> None:
    answer = await api.creator.ask("OPTIONS", "/upload/tus", headers={"Origin": "https://studio.example"})
    assert answer.status == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert {"creation", "checksum", "concatenation", "termination", "expiration"} <= set(
        answer.headers["Tus-Extension"].split(",")
    )
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    other = await api.creator.ask("POST", "/upload/tus", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "5"})
    assert (other.status, other.headers["Tus-Version"], other.headers["Access-Control-Allow-Origin"]) == (412, "1.0.0", "*")


@pytest.mark.parametrize(
    ("headers", "status", "problem"),
    [
        ({"Upload-Length": "0"}, 422, "empty-file"),
        ({"Upload-Length": "-1"}, 400, "header-malformed"),
        ({}, 400, "header-malformed"),
        ({"Upload-Length": str(2**50)}, 413, "file-too-large"),
        ({"Upload-Length": "5", "Upload-Metadata": "filename ?"}, 400, "header-malformed"),
        ({"Upload-Concat": "final;nothing"}, 400, "header-malformed"),
        ({"Upload-Length": "5", "Authorization": ""}, 401, "token-missing"),
    ],
)
async def test_a_creation_that_cannot_be_is_refused_by_name(
    api: RunningApi, headers: dict[str, str], status: int, problem: str
) -> None:
    answer = await api.creator.ask("POST", "/upload/tus", headers={**TUS, **headers})
    assert (answer.status, answer.problem) == (status, problem)
    async with reading(api.catalogue) as connection:
        assert (await connection.execute(select(uploads.c.id))).first() is None


async def test_more_bytes_than_declared_are_refused_before_they_are_read(api: RunningApi) -> None:
    path = await created(api, 10)
    answer = await patch(api, path, 0, b"x" * 11)
    assert (answer.status, answer.problem) == (413, "beyond-declared-size")
    assert await offset_of(api, path) == 0


async def test_all_bytes_there_but_killed_before_the_end_the_origin_finishes_by_itself(api: RunningApi) -> None:
    path = await created(api)
    upload = await Streams(api.intake).upload(ANYBODY, VideoId(id_of(path)))
    for number, first in enumerate(range(0, len(CLIP), PART), 1):
        draft = await api.stores.parts.draft(upload.id, number)
        await draft.write(CLIP[first : first + PART])
        await draft.settle()
    assert await Streams(api.intake).finish_whole() == 1
    assert await Streams(api.intake).finish_whole() == 0
    assert await master_of(api, id_of(path)) == CLIP


async def test_a_wish_to_finish_does_not_disturb_who_still_sends(api: RunningApi) -> None:
    path = await created(api)
    go_on = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield CLIP[:PART]
        await go_on.wait()
        yield CLIP[PART:]

    append = Append(0, chunks())
    sending = asyncio.create_task(Streams(api.intake).append(ANYBODY, VideoId(id_of(path)), append))
    assert await Streams(api.intake).finish_whole() == 0
    go_on.set()
    assert (await sending).finished


# Google


async def session(api: RunningApi, size: int | None = len(CLIP), body: Any = None) -> str:
    said = {"snippet": {"title": "A clip", "description": "d", "tags": ["a", "b"], "categoryId": "22"}} if body is None else body
    headers = {"X-Upload-Content-Type": "video/mp4"} | ({"X-Upload-Content-Length": str(size)} if size is not None else {})
    answer = await api.creator.ask(
        "POST", "/upload/youtube/v3/videos?uploadType=resumable&part=snippet,status", json=said, headers=headers
    )
    assert answer.status == 200, answer
    return path_of(answer)


async def put(api: RunningApi, path: str, body: bytes, content_range: str) -> Answer:
    headers = {"Content-Range": content_range, "Authorization": ""}  # the session's URL is enough, as at Google
    return await api.creator.ask("PUT", path, data=io.BytesIO(body), headers=headers, allow_redirects=False)


async def test_a_file_arrives_by_googles_protocol_with_308s_and_probes(api: RunningApi) -> None:
    path = await session(api)
    total = len(CLIP)
    probe = await put(api, path, b"", f"bytes */{total}")
    assert (probe.status, "Range" in probe.headers) == (308, False)
    first = await put(api, path, CLIP[:PART], f"bytes 0-{PART - 1}/{total}")
    assert (first.status, first.headers["Range"]) == (308, f"bytes=0-{PART - 1}")
    again = await put(api, path, CLIP[: PART + 5], f"bytes 0-{PART + 4}/{total}")  # what was stored is not stored twice
    assert (again.status, again.headers["Range"]) == (308, f"bytes=0-{PART + 4}")
    gap = await put(api, path, CLIP[-10:], f"bytes {total - 10}-{total - 1}/{total}")
    assert (gap.status, gap.headers["Range"]) == (308, f"bytes=0-{PART + 4}")
    last = await put(api, path, CLIP[PART + 5 :], f"bytes {PART + 5}-{total - 1}/{total}")
    assert (last.status, last.body["kind"], last.body["status"]["uploadStatus"]) == (200, "youtube#video", "uploaded")
    assert await master_of(api, last.body["id"]) == CLIP
    assert (await put(api, path, b"", f"bytes */{total}")).body["id"] == last.body["id"]
    video = (await api.creator.ask("GET", f"/api/v1/videos/{last.body['id']}")).body
    assert (video["title"], video["tags"]) == ("A clip", ["a", "b"])


async def test_a_file_of_unknown_size_ends_when_its_last_range_says_so(api: RunningApi) -> None:
    path = await session(api, size=None)
    await put(api, path, CLIP[:PART], f"bytes 0-{PART - 1}/*")
    last = await put(api, path, CLIP[PART:], f"bytes {PART}-{len(CLIP) - 1}/{len(CLIP)}")
    assert await master_of(api, last.body["id"]) == CLIP


async def test_a_session_is_opened_by_its_url_alone_and_by_no_guess(api: RunningApi) -> None:
    path = await session(api)
    assert (await put(api, path[:-1] + ("A" if path[-1] != "A" else "B"), b"", "bytes */*")).problem == "video-not-found"
    assert (await put(api, path.partition(".")[0], b"", "bytes */*")).problem == "video-not-found"
    refused = await api.creator.ask(
        "POST", "/upload/youtube/v3/videos?uploadType=resumable", json={}, headers={"Authorization": ""}
    )
    assert refused.problem == "token-missing"
    assert (await api.creator.ask("POST", "/upload/youtube/v3/videos?uploadType=multipart", json={})).problem == "upload-type"
    async with reading(api.catalogue) as connection:
        said = (await connection.execute(select(uploads.c.said))).scalar_one()
    assert path.partition(".")[2] not in said
    assert set(json.loads(said)) == {"session_sha256", "snippet"}


# The IETF draft


async def test_a_file_arrives_by_the_draft_in_appends(api: RunningApi) -> None:
    begun = await api.creator.ask(
        "POST", "/upload/resumable", data=CLIP[:1000],
        headers={"Upload-Complete": "?0", "Upload-Length": str(len(CLIP)), "Content-Disposition": 'inline; filename="c.mp4"',
                 "Content-Type": "video/mp4"},
    )  # fmt: skip
    assert (begun.status, begun.headers["Upload-Offset"], begun.headers["Upload-Complete"]) == (201, "1000", "?0")
    assert begun.headers["Upload-Limit"].startswith("max-size=")
    path = path_of(begun)
    head = await api.creator.ask("HEAD", path)
    assert (head.status, head.headers["Upload-Offset"], head.headers["Upload-Length"]) == (204, "1000", str(len(CLIP)))
    wrong = await api.creator.ask("PATCH", path, data=b"x", headers={**PARTIAL, "Upload-Offset": "5", "Upload-Complete": "?0"})
    assert (wrong.status, wrong.body["expected-offset"], wrong.headers["Upload-Offset"]) == (409, 1000, "1000")
    assert wrong.body["type"] == "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
    more = await api.creator.ask(
        "PATCH", path, data=CLIP[1000:], headers={**PARTIAL, "Upload-Offset": "1000", "Upload-Complete": "?0"}
    )
    assert (more.status, more.headers["Upload-Complete"]) == (
        204,
        "?0",
    )  # all bytes, but only the client says that it is complete
    done = await api.creator.ask("PATCH", path, headers={**PARTIAL, "Upload-Offset": str(len(CLIP)), "Upload-Complete": "?1"})
    assert (done.status, done.headers["Upload-Complete"], done.body["status"]) == (201, "?1", "processing")
    assert await master_of(api, done.body["video_id"]) == CLIP
    assert (await api.creator.ask("HEAD", path)).headers["Upload-Complete"] == "?1"


async def test_a_whole_file_in_one_request_is_announced_before_it_is_read_and_resumed_after_a_cut(api: RunningApi) -> None:
    url = api.deployment.origin.api.listen
    reader, writer = await asyncio.open_connection(url.host, url.port)
    fields = {"Host": str(url), "Authorization": f"Bearer {api.token.text}", "Content-Length": str(len(CLIP)),
              "Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8", "Expect": "100-continue"}  # fmt: skip
    writer.write(head_of("POST /upload/resumable?title=Clip", fields))
    announced = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert announced.startswith("HTTP/1.1 104 Upload Resumption Supported\r\n")
    assert "Upload-Draft-Interop-Version: 8" in announced
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue")
    writer.write(CLIP[: PART + 9])
    assert b"Upload-Offset: %d\r\n" % PART in await reader.readuntil(b"\r\n\r\n")  # told while it arrives
    before = value("headwater_uploads_appends_total", outcome="cut-off")
    writer.close()
    await writer.wait_closed()
    await until(lambda: value("headwater_uploads_appends_total", outcome="cut-off") > before)

    path = "/" + announced.split("Location: ")[1].split("\r\n")[0].split("/", 3)[3]
    offset = await offset_of(api, path)
    assert offset == PART + 9
    rest = await api.creator.ask(
        "PATCH", path, data=CLIP[offset:], headers={**PARTIAL, "Upload-Offset": str(offset), "Upload-Complete": "?1"}
    )
    assert rest.status == 201
    assert await master_of(api, rest.body["video_id"]) == CLIP


async def test_a_plain_post_is_an_upload_too(api: RunningApi) -> None:
    answer = await api.creator.ask("POST", "/upload/resumable?title=Plain", data=CLIP, headers={"Content-Type": "video/mp4"})
    assert (answer.status, answer.headers["Upload-Complete"]) == (201, "?1")
    assert await master_of(api, answer.body["video_id"]) == CLIP


async def test_lengths_that_do_not_agree_are_refused_in_the_drafts_words(api: RunningApi) -> None:
    answer = await api.creator.ask(
        "POST", "/upload/resumable", data=b"abc", headers={"Upload-Complete": "?1", "Upload-Length": "4"}
    )
    assert answer.body["type"].endswith("#inconsistent-upload-length")
    begun = await api.creator.ask(
        "POST", "/upload/resumable", data=b"abc", headers={"Upload-Complete": "?0", "Upload-Length": "4"}
    )
    path = path_of(begun)
    more = {**PARTIAL, "Upload-Offset": "3", "Upload-Complete": "?1"}
    assert (await api.creator.ask("PATCH", path, data=b"de", headers=more)).body["type"].endswith("#inconsistent-upload-length")
    assert (await api.creator.ask("PATCH", path, data=b"d", headers=more)).status == 201
    over = await api.creator.ask("PATCH", path, data=b"d", headers={**more, "Upload-Offset": "4"})
    assert over.body["type"].endswith(("#completed-upload", "#inconsistent-upload-length"))
    assert (await api.creator.ask("PATCH", path, data=b"d", headers={"Content-Type": "text/plain"})).status == 415


async def test_a_cancelled_upload_of_the_draft_is_gone(api: RunningApi) -> None:
    begun = await api.creator.ask("POST", "/upload/resumable", data=b"abc", headers={"Upload-Complete": "?0"})
    assert (await api.creator.ask("DELETE", path_of(begun))).status == 204
    assert (await api.creator.ask("HEAD", path_of(begun))).status == 404
    options = await api.creator.ask("OPTIONS", "/upload/resumable")
    assert options.headers["Accept-Patch"] == "application/partial-upload"


# All of them


async def test_a_refusal_comes_before_the_bytes_for_a_client_that_waits(api: RunningApi) -> None:
    """`Expect: 100-continue`: with curl and large bodies that is every request."""
    url = api.deployment.origin.api.listen
    for path, fields in (
        ("/upload/resumable", {"Upload-Complete": "?1", "Content-Length": str(2**50)}),
        ("/upload/tus", {**STREAM, "Upload-Length": "5", "Content-Length": "5", "Authorization": "Bearer hw_1"}),
    ):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        said = {"Host": str(url), "Authorization": f"Bearer {api.token.text}", "Expect": "100-continue", **fields}
        writer.write(head_of(f"POST {path}", said))
        assert (await reader.readline()).split()[1] in (b"413", b"401")
        writer.close()
        await writer.wait_closed()
    await until(lambda: not lingering())


async def test_a_creators_stream_is_nobody_elses(api: RunningApi) -> None:
    path = await created(api)
    async with writing(api.catalogue) as connection:
        await connection.execute(uploads.update().values(creator="bob"))
        await connection.execute(api_tokens.update().values(scopes=["upload"]))
    assert (await patch(api, path, 0, b"x")).problem == "upload-not-yours"
    with pytest.raises(aiohttp.ClientResponseError):
        async with api.creator.session.head(path, headers=TUS) as answer:
            answer.raise_for_status()
