"""Uploads as a creator lives them: over HTTP, with a real catalogue and real files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from headwater.settings.deployment import Deployment
from origin.catalogue.engine import reading
from origin.catalogue.schema import jobs, upload_parts, uploads, videos
from origin.uploads.intake import master_key
from tests.support.origin import MIB, Creator, RunningApi, content_digest, running_api

pytestmark = pytest.mark.both_catalogues

CLIP = random.Random(7).randbytes(11 * MIB + 17)  # three parts of 5 MiB, the last one short
PART = 5 * MIB


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


@pytest.fixture
def creator(api: RunningApi) -> Creator:
    return api.creator


async def master_of(api: RunningApi, video_id: str) -> bytes:
    return b"".join([chunk async for chunk in api.stores.masters.read(f"masters/{video_id}/source")])


async def test_an_uploaded_file_becomes_a_master_and_a_waiting_job(api: RunningApi, creator: Creator) -> None:
    begun = await creator.begin(len(CLIP), part_size=PART)
    assert begun.status == 201
    upload = begun.body["upload"]
    assert [(part["number"], part["size"], part["arrived"]) for part in upload["parts"]] == [
        (1, PART, False), (2, PART, False), (3, MIB + 17, False)
    ]  # fmt: skip
    await creator.put_all(upload["parts"], CLIP)
    completed = await creator.complete(begun.body["video_id"])
    assert (completed.status, completed.body["status"]) == (202, "processing")

    assert await master_of(api, begun.body["video_id"]) == CLIP
    async with reading(api.catalogue) as connection:
        job = (await connection.execute(select(jobs))).mappings().one()
        upload_row = (await connection.execute(select(uploads))).mappings().one()
        ledger = (await connection.execute(select(upload_parts.c.number).order_by(upload_parts.c.number))).scalars().all()
    assert (job["video_id"], job["state"], job["master_key"]) == (
        begun.body["video_id"], "waiting", master_key(begun.body["video_id"])
    )  # fmt: skip
    assert upload_row["sha256"] == hashlib.sha256(CLIP).hexdigest()
    assert ledger == [1, 2, 3]


async def test_the_upload_says_what_arrived_and_signs_fresh_urls(creator: Creator) -> None:
    begun = await creator.begin(len(CLIP), part_size=PART)
    second = begun.body["upload"]["parts"][1]
    await creator.put(second, CLIP[PART : 2 * PART])
    state = (await creator.state(begun.body["video_id"])).body
    assert [part["arrived"] for part in state["parts"]] == [False, True, False]
    assert state["parts"][1]["sha256"] == hashlib.sha256(CLIP[PART : 2 * PART]).hexdigest()
    await creator.put_all(state["parts"], CLIP)
    assert (await creator.complete(begun.body["video_id"])).status == 202


async def test_complete_names_the_parts_that_are_missing(creator: Creator) -> None:
    begun = await creator.begin(len(CLIP), part_size=PART)
    await creator.put(begun.body["upload"]["parts"][1], CLIP[PART : 2 * PART])
    answer = await creator.complete(begun.body["video_id"])
    assert (answer.status, answer.problem, answer.body["missing"]) == (409, "parts-missing", [1, 3])
    assert "1, 3" in answer.body["detail"]


async def test_the_same_idempotency_key_finds_the_same_upload(creator: Creator) -> None:
    first = await creator.begin(100, key="k-1")
    again = await creator.begin(100, key="k-1")
    other = await creator.begin(100, key="k-2")
    assert (first.status, again.status) == (201, 201)
    assert first.body["video_id"] == again.body["video_id"] != other.body["video_id"]


async def test_two_requests_at_once_with_one_key_make_one_video(api: RunningApi, creator: Creator) -> None:
    answers = await asyncio.gather(*(creator.begin(100, key="together") for _ in range(8)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["video_id"] for answer in answers}) == 1
    async with reading(api.catalogue) as connection:
        assert len((await connection.execute(select(videos.c.id))).all()) == 1


async def test_an_idempotency_key_with_another_request_is_refused(creator: Creator) -> None:
    await creator.begin(100, key="k")
    answer = await creator.begin(101, key="k")
    assert (answer.status, answer.problem) == (422, "idempotency-key-reused")


async def test_completing_twice_and_in_parallel_makes_one_job(api: RunningApi, creator: Creator) -> None:
    begun = await creator.begin(len(CLIP), part_size=PART)
    await creator.put_all(begun.body["upload"]["parts"], CLIP)
    answers = await asyncio.gather(*(creator.complete(begun.body["video_id"]) for _ in range(5)))
    answers.append(await creator.complete(begun.body["video_id"]))
    assert {(answer.status, answer.body["status"]) for answer in answers} == {(202, "processing")}
    async with reading(api.catalogue) as connection:
        assert len((await connection.execute(select(jobs))).all()) == 1


async def test_a_completed_upload_says_that_everything_arrived(creator: Creator) -> None:
    video_id = await creator.upload(CLIP, part_size=PART)
    state = (await creator.state(video_id)).body
    assert [(part["number"], part["arrived"], part["url"]) for part in state["parts"]] == [(n, True, None) for n in (1, 2, 3)]


async def test_a_part_sent_twice_counts_once_and_the_newest_holds(api: RunningApi, creator: Creator) -> None:
    begun = await creator.begin(4)
    (part,) = begun.body["upload"]["parts"]
    assert (await creator.put(part, b"old!")).status == 204
    assert (await creator.put(part, b"new!")).status == 204
    await creator.complete(begun.body["video_id"])
    assert await master_of(api, begun.body["video_id"]) == b"new!"


async def test_an_empty_file_is_refused_in_plain_words(creator: Creator) -> None:
    answer = await creator.begin(0)
    assert (answer.status, answer.problem) == (422, "empty-file")
    assert "empty" in answer.body["detail"]


async def test_a_file_beyond_the_limit_is_refused(creator: Creator) -> None:
    answer = await creator.begin(51 * 1024 * MIB)
    assert (answer.status, answer.problem) == (413, "file-too-large")


async def test_a_part_with_the_wrong_hash_is_refused_and_does_not_arrive(creator: Creator) -> None:
    begun = await creator.begin(4)
    (part,) = begun.body["upload"]["parts"]
    answer = await creator.put(part, b"abcd", **{"Content-Digest": content_digest(b"abce")})
    assert (answer.status, answer.problem) == (422, "part-hash-mismatch")
    assert (await creator.complete(begun.body["video_id"])).body["missing"] == [1]


async def test_a_body_larger_or_shorter_than_declared_is_refused(creator: Creator) -> None:
    begun = await creator.begin(4)
    (part,) = begun.body["upload"]["parts"]
    assert (await creator.put(part, b"abcde")).problem == "part-too-large"
    assert (await creator.put(part, b"abc")).problem == "part-too-short"
    assert not (await creator.state(begun.body["video_id"])).body["parts"][0]["arrived"]


async def test_a_url_for_one_upload_does_not_open_another(creator: Creator) -> None:
    mine, other = [await creator.begin(4) for _ in range(2)]
    my_url, other_url = (begun.body["upload"]["parts"][0]["url"] for begun in (mine, other))
    forged = other_url.partition("?")[0] + "?" + my_url.partition("?")[2]
    answer = await creator.put({"url": forged}, b"abcd")
    assert (answer.status, answer.problem) == (403, "signature-wrong")


async def test_a_part_that_comes_after_completion_changes_nothing(api: RunningApi, creator: Creator) -> None:
    begun = await creator.begin(4)
    (part,) = begun.body["upload"]["parts"]
    await creator.put(part, b"abcd")
    await creator.complete(begun.body["video_id"])
    assert (await creator.put(part, b"evil")).problem == "upload-unknown"
    assert await master_of(api, begun.body["video_id"]) == b"abcd"


async def test_nothing_is_written_outside_the_data_folder(api: RunningApi, creator: Creator, tmp_path: Path) -> None:
    await creator.upload(b"some bytes", filename="../../../evil.mp4", title="<script>alert(1)</script>")
    assert set(os.listdir(tmp_path)) == {"lab.yaml", "data"}


async def test_complete_checks_the_digests_that_the_creator_says(creator: Creator) -> None:
    begun = await creator.begin(4)
    video_id = begun.body["video_id"]
    await creator.put_all(begun.body["upload"]["parts"], b"abcd")

    def said(body: bytes) -> dict[str, object]:
        return {"json": {"parts": [{"number": 1, "sha256": hashlib.sha256(body).hexdigest()}]}}

    answer = await creator.complete(video_id, **said(b"abce"))
    assert (answer.status, answer.problem, answer.body["damaged"]) == (409, "parts-damaged", [1])
    assert (await creator.complete(video_id, **said(b"abcd"))).status == 202


@pytest.mark.parametrize(
    "said", [{"parts": [{"number": 0, "sha256": "a" * 64}]}, {"parts": [{"number": 1, "sha256": "A"}]}, {"x": 1}]
)
async def test_digests_that_are_none_are_refused(creator: Creator, said: dict[str, object]) -> None:
    begun = await creator.begin(4)
    assert (await creator.complete(begun.body["video_id"], json=said)).problem == "invalid-request"


async def test_a_part_whose_digests_were_said_has_a_url_with_the_headers_to_send(creator: Creator) -> None:
    begun = await creator.begin(len(CLIP), part_size=PART)
    video_id = begun.body["video_id"]
    part = await creator.signed(video_id, 3, CLIP[2 * PART :])
    assert part["headers"] == {"Content-Digest": content_digest(CLIP[2 * PART :])}
    assert (await creator.put(part, CLIP[2 * PART :])).status == 204
    assert [one["arrived"] for one in (await creator.state(video_id)).body["parts"]] == [False, False, True]


async def test_digests_of_parts_that_are_not_planned_or_no_longer_wanted_are_refused(creator: Creator) -> None:
    video_id = await creator.upload(b"a clip")
    said = {"parts": [{"number": 1, "sha256": "0" * 64, "md5": "0" * 32}]}
    late = await creator.ask("POST", f"/api/v1/videos/{video_id}/upload/parts", json=said)
    assert (late.status, late.problem) == (409, "upload-completed")
    open_id = (await creator.begin(5)).body["video_id"]
    said["parts"][0]["number"] = 2
    strange = await creator.ask("POST", f"/api/v1/videos/{open_id}/upload/parts", json=said)
    assert (strange.status, strange.problem) == (422, "part-not-planned")
    said["parts"][0]["md5"] = "no"
    assert (await creator.ask("POST", f"/api/v1/videos/{open_id}/upload/parts", json=said)).problem == "invalid-request"
