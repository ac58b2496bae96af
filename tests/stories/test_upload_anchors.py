"""What users of other platforms suffer from in uploads, impossible here: PeerTube #4969, #7087, #4907, #6885; uppy #1724, #2900.

#4969 and #7087 (a proxy or a dead connection ends an upload, and it restarts from zero) are also in streams/test_tus.py,
uppy #1724 (an interrupted upload does not resume after a reload) with the real client in tests/integration/uploads.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select

from headwater.rules.apitokens import DRAWN_BYTES, Scope, StoredToken, draw_token
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import jobs, uploads, videos
from origin.catalogue.tokens import keep_token
from tests.support.deployments import lab_deployment
from tests.support.origin import Answer, RunningApi, bearer, running_api

PART = 256 * 1024
CLIP = random.Random(13).randbytes(3 * PART + 4321)
DAY_S = 86400.0


class Clock:
    """Told by the test; the URLs' clock too."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def limited(deployment: Deployment, **changed: Any) -> Deployment:
    limits = deployment.origin.uploads.model_copy(update={"part_size": PART, "min_part_size": PART, **changed})
    return deployment.model_copy(update={"origin": deployment.origin.model_copy(update={"uploads": limits})})


@pytest.fixture
def deployment(tmp_path: Any) -> Deployment:
    return limited(lab_deployment(tmp_path))


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


def body_of(part: dict[str, Any], clip: bytes = CLIP) -> bytes:
    first = (part["number"] - 1) * PART
    return clip[first : first + part["size"]]


async def master_of(api: RunningApi, video_id: str) -> bytes:
    async with reading(api.catalogue) as connection:
        key = (await connection.execute(select(jobs.c.master_key).where(jobs.c.video_id == video_id))).scalar_one()
    return b"".join([chunk async for chunk in api.stores.masters.read(key)])


async def test_parts_in_any_order_in_parallel_and_repeated_make_the_file_uppy_2900(api: RunningApi) -> None:
    """uppy #2900: a part that is sent again, or beside others, must not spoil the upload."""
    begun = await api.creator.begin(len(CLIP))
    parts = begun.body["upload"]["parts"]
    order = [*parts, *parts[::2]]
    random.Random(1).shuffle(order)
    answers = await asyncio.gather(*(api.creator.put(part, body_of(part)) for part in order))
    assert {answer.status for answer in answers} == {204}
    assert (await api.creator.complete(begun.body["video_id"])).status == 202
    assert await master_of(api, begun.body["video_id"]) == CLIP
    async with reading(api.catalogue) as connection:
        assert (await connection.execute(select(uploads.c.sha256))).scalar_one() == hashlib.sha256(CLIP).hexdigest()


async def test_an_upload_goes_on_from_another_device_of_its_creator(api: RunningApi) -> None:
    begun = await api.creator.begin(len(CLIP))
    first, *_, last = begun.body["upload"]["parts"]
    for part in (first, last):  # the first and the last part first, so that probing can start
        assert (await api.creator.put(part, body_of(part))).status == 204
    phone = draw_token(secrets.token_bytes(DRAWN_BYTES))
    async with writing(api.catalogue) as connection:
        await keep_token(connection, StoredToken(phone.id, "creator", phone.secret_sha256, frozenset({Scope.UPLOAD}), 1.0))
    path = f"/api/v1/videos/{begun.body['video_id']}/upload"
    state = (await api.creator.ask("GET", path, headers=bearer(phone))).body
    assert [part["arrived"] for part in state["parts"]] == [True, False, False, True]
    await api.creator.put_all(state["parts"], CLIP)
    assert (await api.creator.ask("POST", f"{path}/complete", headers=bearer(phone))).status == 202
    assert await master_of(api, begun.body["video_id"]) == CLIP


async def test_part_urls_that_expired_are_signed_anew_and_nothing_that_arrived_is_lost_peertube_4907_6885(
    deployment: Deployment,
) -> None:
    """PeerTube #4907, #6885: a long upload outlives its URLs or its session, and has to begin again. Here: after six days."""
    clock = Clock()
    async with running_api(deployment, clock=clock) as api:
        begun = await api.creator.begin(len(CLIP))
        old = begun.body["upload"]["parts"]
        assert (await api.creator.put(old[0], body_of(old[0]))).status == 204
        clock.now += 6 * DAY_S
        expired = await api.creator.put(old[1], body_of(old[1]))
        assert (expired.status, expired.problem) == (403, "url-expired")
        assert "ask for the upload again" in expired.body["detail"]
        await api.intake.collect_abandoned()
        state = (await api.creator.state(begun.body["video_id"])).body
        assert [part["arrived"] for part in state["parts"]] == [True, False, False, False]
        await api.creator.put_all(state["parts"], CLIP)
        assert (await api.creator.complete(begun.body["video_id"])).status == 202
        assert await master_of(api, begun.body["video_id"]) == CLIP


async def test_a_stream_goes_on_after_days_without_a_session_that_could_expire_peertube_6885(deployment: Deployment) -> None:
    clock = Clock()
    tus = {"Tus-Resumable": "1.0.0"}
    async with running_api(deployment, clock=clock) as api:
        begun = await api.creator.ask("POST", "/upload/tus", headers={**tus, "Upload-Length": str(len(CLIP))})
        path = "/" + begun.headers["Location"].split("/", 3)[3]
        append = {**tus, "Content-Type": "application/offset+octet-stream"}
        await api.creator.ask("PATCH", path, data=CLIP[:1000], headers={**append, "Upload-Offset": "0"})
        clock.now += 6 * DAY_S
        await api.intake.collect_abandoned()
    async with running_api(deployment, clock=clock) as api:  # another process, too
        assert (await api.creator.ask("HEAD", path, headers=tus)).headers["Upload-Offset"] == "1000"
        rest = await api.creator.ask("PATCH", path, data=CLIP[1000:], headers={**append, "Upload-Offset": "1000"})
        assert rest.status == 204
        assert await master_of(api, path.rpartition("/")[2]) == CLIP


async def test_an_identical_file_is_stored_once_however_it_comes(api: RunningApi) -> None:
    first = await api.creator.upload(CLIP)
    before = value("headwater_uploads_reused_bytes_total")
    again = await api.creator.upload(CLIP, title="The same")
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(CLIP)), "Content-Type": "application/offset+octet-stream"}
    by_tus = await api.creator.ask("POST", "/upload/tus", data=CLIP, headers=tus)
    cut_otherwise = await api.creator.upload(CLIP, part_size=2 * PART)
    assert value("headwater_uploads_reused_bytes_total") == before + 2 * len(CLIP)
    for video_id in (first, again, by_tus.headers["Headwater-Video"], cut_otherwise):
        assert await master_of(api, video_id) == CLIP
    blobs = [file for file in (api.deployment.data / "objects" / "masters" / "blobs").rglob("*") if file.is_file()]
    assert len(blobs) == 1
    async with reading(api.catalogue) as connection:
        assert (await connection.execute(select(func.count()).select_from(jobs))).scalar_one() == 4


async def test_a_file_that_differs_in_one_byte_is_another_file(api: RunningApi) -> None:
    other = CLIP[:-1] + bytes([CLIP[-1] ^ 1])
    first, second = await api.creator.upload(CLIP), await api.creator.upload(other)
    assert (await master_of(api, first), await master_of(api, second)) == (CLIP, other)


# Limits: refused before the bytes are sent, each with its cure


async def begin_by(api: RunningApi, dialect: str, size: int) -> Answer:
    match dialect:
        case "parts":
            return await api.creator.begin(size)
        case "tus":
            return await api.creator.ask("POST", "/upload/tus", headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(size)})
        case "youtube":
            path = "/upload/youtube/v3/videos?uploadType=resumable"
            return await api.creator.ask("POST", path, json={}, headers={"X-Upload-Content-Length": str(size)})
        case _:
            fields = {"Upload-Complete": "?0", "Upload-Length": str(size)}
            return await api.creator.ask("POST", "/upload/resumable", headers=fields)


DIALECTS = ("parts", "tus", "youtube", "ietf")


@pytest.mark.parametrize(
    ("changed", "size", "status", "problem", "cure"),
    [
        ({"max_size": 10}, 11, 413, "file-too-large", "at most 10"),
        ({"budget": 100}, 101, 507, "storage-budget-exhausted", "origin.uploads.budget"),
        ({"keep_free": 2**60}, 5, 507, "disk-full", "free space"),
    ],
)
async def test_a_limit_is_said_before_the_bytes_are_sent_in_every_dialect(
    deployment: Deployment, changed: dict[str, int], size: int, status: int, problem: str, cure: str
) -> None:
    async with running_api(limited(deployment, **changed)) as api:
        for dialect in DIALECTS:
            before = value("headwater_api_problems_total", problem=problem)
            answer = await begin_by(api, dialect, size)
            assert (answer.status, answer.problem) == (status, problem), dialect
            assert cure in answer.body["detail"]
            assert value("headwater_api_problems_total", problem=problem) == before + 1
        async with reading(api.catalogue) as connection:
            assert (await connection.execute(select(func.count()).select_from(videos))).scalar_one() == 0


async def test_a_creator_has_so_many_uploads_open_and_another_creator_as_many(deployment: Deployment) -> None:
    async with running_api(limited(deployment, max_open=len(DIALECTS))) as api:
        begun = [await begin_by(api, dialect, 5) for dialect in DIALECTS]
        assert all(answer.status in (200, 201) for answer in begun)
        for dialect in DIALECTS:
            answer = await begin_by(api, dialect, 5)
            assert (answer.status, answer.problem, answer.body["limit"]) == (429, "too-many-open-uploads", len(DIALECTS))
        bob = draw_token(secrets.token_bytes(DRAWN_BYTES))
        async with writing(api.catalogue) as connection:
            await keep_token(connection, StoredToken(bob.id, "bob", bob.secret_sha256, frozenset({Scope.UPLOAD}), 1.0))
        said = {"title": "t", "size": 5, "filename": "f.mp4"}
        assert (await api.creator.ask("POST", "/api/v1/videos", json=said, headers=bearer(bob))).status == 201

        # The cures that the refusal names: delete one, or complete one.
        path = f"/api/v1/videos/{begun[0].body['video_id']}/upload"
        assert (await api.creator.ask("DELETE", path)).status == 204
        again = await begin_by(api, "parts", 5)
        assert again.status == 201
        await api.creator.put_all(again.body["upload"]["parts"], b"bytes")
        assert (await api.creator.complete(again.body["video_id"])).status == 202
        assert (await begin_by(api, "tus", 5)).status == 201


async def test_a_completed_upload_is_not_deleted_as_an_open_one(api: RunningApi) -> None:
    video_id = await api.creator.upload(b"bytes")
    answer = await api.creator.ask("DELETE", f"/api/v1/videos/{video_id}/upload")
    assert (answer.status, answer.problem) == (409, "upload-completed")


async def test_the_budget_counts_what_is_stored_and_what_is_announced(deployment: Deployment) -> None:
    async with running_api(limited(deployment, budget=100)) as api:
        await api.creator.upload(b"x" * 40)
        assert (await begin_by(api, "tus", 40)).status == 201
        answers = [
            (await begin_by(api, dialect, size)).status for dialect, size in itertools.product(("parts", "ietf"), (21, 10))
        ]
        assert answers == [507, 201, 507, 201]


async def test_a_size_that_is_told_late_counts_as_one_that_is_told_at_once(deployment: Deployment) -> None:
    """Else whoever tells it last, with the last bytes, stores as much as they like."""
    async with running_api(limited(deployment, budget=100)) as api:
        await api.creator.upload(b"x" * 40)
        tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
        begun = await api.creator.ask("POST", "/upload/tus", headers={**tus, "Upload-Defer-Length": "1"})
        path = "/" + begun.headers["Location"].split("/", 3)[3]
        for size, status in ((61, 507), (60, 204)):
            fields = {**tus, "Upload-Offset": "0", "Upload-Length": str(size)}
            assert (await api.creator.ask("PATCH", path, data=b"x" * size, headers=fields)).status == status


async def test_pieces_and_what_is_made_of_them_are_not_counted_both(deployment: Deployment) -> None:
    """Else a file sent in parallel, whose bytes are all here, would be refused for want of room for twice its size."""
    async with running_api(limited(deployment, budget=100)) as api:
        tus, paths = {"Tus-Resumable": "1.0.0"}, []
        for _ in range(2):
            fields = {**tus, "Upload-Length": "40", "Upload-Concat": "partial", "Content-Type": "application/offset+octet-stream"}
            paths.append((await api.creator.ask("POST", "/upload/tus", data=b"x" * 40, headers=fields)).headers["Location"])
        twice = {**tus, "Upload-Concat": f"final;{paths[0]} {paths[1]} {paths[1]}"}
        refused = await api.creator.ask("POST", "/upload/tus", headers=twice)
        assert (refused.status, refused.problem) == (507, "storage-budget-exhausted")
        once = {**tus, "Upload-Concat": f"final;{paths[0]} {paths[1]}"}
        assert (await api.creator.ask("POST", "/upload/tus", headers=once)).status == 201
