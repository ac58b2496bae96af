"""Uploads that arrive as a stream at an origin whose masters are in an S3 store: acknowledged is stored there."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from headwater.settings.deployment import Deployment
from origin.catalogue.engine import reading
from origin.catalogue.schema import jobs, uploads
from origin.objects.s3parts import S3PartStore
from tests.support.origin import MIB, Answer, RunningApi, running_api

CLIP = random.Random(23).randbytes(7 * MIB + 99)
TUS = {"Tus-Resumable": "1.0.0"}
APPEND = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(params=["rclone", "ceph"])
async def api(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncIterator[RunningApi]:
    masters = request.getfixturevalue("bucket" if request.param == "rclone" else "ceph_bucket")
    limits = deployment.origin.uploads.model_copy(update={"part_size": 5 * MIB})
    origin = deployment.origin.model_copy(update={"masters": masters, "uploads": limits})
    async with running_api(deployment.model_copy(update={"origin": origin})) as running:
        assert isinstance(running.stores.parts, S3PartStore)
        yield running


async def created(api: RunningApi, size: int, **fields: str) -> str:
    answer = await api.creator.ask("POST", "/upload/tus", headers={**TUS, "Upload-Length": str(size), **fields})
    return "/" + answer.headers["Location"].split("/", 3)[3]


async def patch(api: RunningApi, path: str, offset: int, body: bytes) -> Answer:
    return await api.creator.ask("PATCH", path, data=io.BytesIO(body), headers={**APPEND, "Upload-Offset": str(offset)})


async def is_whole(api: RunningApi, video_id: str) -> None:
    async with reading(api.catalogue) as connection:
        key = (await connection.execute(select(jobs.c.master_key).where(jobs.c.video_id == video_id))).scalar_one()
        sha256 = (await connection.execute(select(uploads.c.sha256).where(uploads.c.video_id == video_id))).scalar_one()
    assert b"".join([chunk async for chunk in api.stores.masters.read(key)]) == CLIP
    assert sha256 == hashlib.sha256(CLIP).hexdigest()


async def test_a_stream_grows_in_the_store_with_every_request(api: RunningApi) -> None:
    path = await created(api, len(CLIP))
    offset = 0
    for size in (MIB, 100, 5 * MIB, len(CLIP)):
        answer = await patch(api, path, offset, CLIP[offset : offset + size])
        offset = min(offset + size, len(CLIP))
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(offset)), answer
        head = await api.creator.ask("HEAD", path, headers=TUS)
        assert head.headers["Upload-Offset"] == str(offset)
    await is_whole(api, path.rpartition("/")[2])


async def test_pieces_sent_side_by_side_are_joined_in_the_store(api: RunningApi) -> None:
    cut = 2 * MIB + 5
    paths = [await created(api, size, **{"Upload-Concat": "partial"}) for size in (cut, len(CLIP) - cut)]
    await asyncio.gather(patch(api, paths[0], 0, CLIP[:cut]), patch(api, paths[1], 0, CLIP[cut:]))
    final = await api.creator.ask("POST", "/upload/tus", headers={**TUS, "Upload-Concat": f"final;{' '.join(paths)}"})
    assert final.status == 201, final
    await is_whole(api, final.headers["Headwater-Video"])
