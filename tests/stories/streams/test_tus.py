"""Uploads by tus, one request at a time, over a real catalogue and real files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from headwater.rules.names import VideoId
from headwater.runtime.metrics import value
from origin.catalogue.engine import reading
from origin.catalogue.schema import uploads, videos
from origin.objects.interface import DiskFull, ObjectInfo
from origin.uploads.creator import ANYBODY
from origin.uploads.streams import Append, Streams
from tests.support.origin import Answer, RunningApi
from tests.support.streaming import (
    CLIP,
    PART,
    STREAM,
    TUS,
    broken_off,
    created,
    encoded,
    id_of,
    lingering,
    master_of,
    offset_of,
    patch,
    path_of,
)
from tests.support.waiting import until


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


async def test_bytes_are_counted_once_however_often_an_unfinished_part_is_stored_again(api: RunningApi) -> None:
    path, before = await created(api), value("headwater_uploads_streamed_bytes_total", dialect="tus")
    for offset in range(0, len(CLIP), PART // 5):
        await patch(api, path, offset, CLIP[offset : offset + PART // 5])
    assert value("headwater_uploads_streamed_bytes_total", dialect="tus") - before == len(CLIP)


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


async def test_a_size_that_comes_with_a_refused_request_is_not_taken(api: RunningApi) -> None:
    """Else a client that told its size beside a stale offset, or a wrong one, could never finish this upload."""
    path = path_of(await api.creator.ask("POST", "/upload/tus", headers={**TUS, "Upload-Defer-Length": "1"}))
    await patch(api, path, 0, CLIP[:1000])
    for offset, size, problem in ((999, 1009, "offset-differs"), (1000, 5, "beyond-declared-size")):
        refused = await patch(api, path, offset, b"x" * 10, **{"Upload-Length": str(size)})
        assert (refused.problem, await offset_of(api, path)) == (problem, 1000)
    assert (await patch(api, path, 1000, CLIP[1000:], **{"Upload-Length": str(len(CLIP))})).status == 204
    assert await master_of(api, id_of(path)) == CLIP


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


async def test_bytes_that_come_with_the_creation_are_checked_too_and_leave_no_upload_that_is_nobodys(
    api: RunningApi,
) -> None:
    def checked(body: bytes) -> dict[str, str]:
        digest = base64.b64encode(hashlib.sha256(CLIP).digest()).decode()
        return {**STREAM, "Upload-Length": str(len(body)), "Upload-Checksum": f"sha256 {digest}"}

    damaged = CLIP[:-1] + bytes([CLIP[-1] ^ 1])
    refused = await api.creator.ask("POST", "/upload/tus", data=damaged, headers=checked(damaged))
    assert (refused.status, refused.problem) == (460, "checksum-differs")
    async with reading(api.catalogue) as connection:
        assert (await connection.execute(select(uploads.c.id))).all() == []
    whole = await api.creator.ask("POST", "/upload/tus", data=CLIP, headers=checked(CLIP))
    assert await master_of(api, id_of(path_of(whole))) == CLIP


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


async def test_who_asks_twice_for_a_video_of_the_same_pieces_is_told_of_each_that_was_made(api: RunningApi) -> None:
    """A client that got no answer in time asks again, while the first request still goes on."""
    cut = PART + 77
    paths = [await created(api, size, **{"Upload-Concat": "partial"}) for size in (cut, len(CLIP) - cut)]
    await asyncio.gather(patch(api, paths[0], 0, CLIP[:cut]), patch(api, paths[1], 0, CLIP[cut:]))
    headers = {**TUS, "Upload-Concat": "final;" + " ".join(paths)}
    answers = await asyncio.gather(*(api.creator.ask("POST", "/upload/tus", headers=headers) for _ in range(3)))
    made = [id_of(path_of(answer)) for answer in answers if answer.status == 201]
    assert {answer.problem for answer in answers if answer.status != 201} <= {"not-concatenable", "video-not-found"}
    listed = (await api.creator.ask("GET", "/api/v1/videos")).body["videos"]
    assert {video["video_id"] for video in listed} == set(made)
    assert [await master_of(api, one) for one in made] == [CLIP] * len(made)


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


async def test_one_that_finds_no_room_to_be_finished_keeps_no_other_waiting(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is collected afterwards, and makes room, does not wait for it either."""
    paths = [await created(api), await created(api)]
    for path in paths:
        upload = await Streams(api.intake).upload(ANYBODY, VideoId(id_of(path)))
        for number, first in enumerate(range(0, len(CLIP), PART), 1):
            draft = await api.stores.parts.draft(upload.id, number)
            await draft.write(CLIP[first : first + PART])
            await draft.settle()
    complete, full = api.stores.parts.complete, [True]

    async def first_finds_no_room(*arguments: Any) -> ObjectInfo:
        if full:
            full.clear()
            raise DiskFull("there is no room")
        return await complete(*arguments)

    monkeypatch.setattr(api.stores.parts, "complete", first_finds_no_room)
    assert await Streams(api.intake).finish_whole() == 1
    assert await Streams(api.intake).finish_whole() == 1
    assert [await master_of(api, id_of(path)) for path in paths] == [CLIP, CLIP]


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
