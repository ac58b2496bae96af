"""Uploads by Google's protocol and the IETF draft, and what holds for every stream, over a real catalogue and real files."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from headwater.runtime.metrics import value
from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import api_tokens, uploads
from tests.support.origin import Answer, RunningApi
from tests.support.streaming import (
    CLIP,
    PART,
    PARTIAL,
    STREAM,
    TUS,
    created,
    head_of,
    lingering,
    master_of,
    offset_of,
    patch,
    path_of,
)
from tests.support.waiting import until

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


async def test_a_file_of_unknown_size_may_end_with_its_last_full_range(api: RunningApi) -> None:
    """Google's client for Go reads chunk by chunk: when the file's end is the end of one, it has only the size left to send."""
    path = await session(api, size=None)
    for first in (0, PART):
        sent = await put(api, path, CLIP[first : first + PART], f"bytes {first}-{first + PART - 1}/*")
        assert sent.headers["Range"] == f"bytes=0-{first + PART - 1}"
    for other in (2 * PART - 1, 2 * PART + 1):
        assert (await put(api, path, b"", f"bytes */{other}")).status == 308  # a question: that much is not what is stored
    last = await put(api, path, b"", f"bytes */{2 * PART}")
    assert last.status == 200, last
    assert await master_of(api, last.body["id"]) == CLIP[: 2 * PART]


async def test_a_client_that_takes_308_for_a_redirect_is_told_by_a_header(api: RunningApi) -> None:
    """As Google's client for Go asks for it (google.golang.org/api/internal/gensupport)."""
    path = await session(api)
    headers = {"Content-Range": f"bytes 0-{PART - 1}/{len(CLIP)}", "X-GUploader-No-308": "yes", "Authorization": ""}
    answer = await api.creator.ask("PUT", path, data=io.BytesIO(CLIP[:PART]), headers=headers)
    told = (answer.status, answer.headers["X-HTTP-Status-Code-Override"], answer.headers["Range"])
    assert told == (200, "308", f"bytes=0-{PART - 1}")


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
    assert set(json.loads(said)) == {"session_sha256", "token_id", "snippet"}


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


async def test_a_file_that_ends_before_its_first_byte_is_empty_also_when_nobody_said_its_length(api: RunningApi) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        for chunk in list[bytes]():
            yield chunk

    answer = await api.creator.ask("POST", "/upload/resumable", data=nothing(), headers={"Upload-Complete": "?1"})
    assert (answer.status, answer.problem) == (422, "empty-file")


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
