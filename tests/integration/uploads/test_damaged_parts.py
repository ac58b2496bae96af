"""Bytes that flip where they lie, between their arrival and the first time they are read: the API names the part, shows it as not
arrived, and wants it alone again. On local files, and on Ceph."""

from __future__ import annotations

import asyncio
import io
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from headwater.settings.deployment import Deployment
from origin.objects.fileparts import FilePartStore
from tests.support.ceph import Ceph
from tests.support.origin import MIB, Creator, RunningApi, running_api
from tests.support.s3server import ACCESS_KEY, SECRET_KEY

PART = 5 * MIB
CLIP = random.Random(17).randbytes(2 * PART + 99)
BODIES = [CLIP[start : start + PART] for start in range(0, len(CLIP), PART)]


@pytest.fixture(params=["files", pytest.param("ceph", marks=pytest.mark.xdist_group("ceph"))])
async def api(
    request: pytest.FixtureRequest, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningApi]:
    if request.param == "ceph":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        bucket = await asyncio.to_thread(request.getfixturevalue("ceph").bucket, f"damaged-{secrets.token_hex(4)}")
        origin = deployment.origin.model_copy(update={"masters": bucket})
        deployment = deployment.model_copy(update={"origin": origin})
    async with running_api(deployment) as running:
        yield running


async def send(creator: Creator, video_id: str, number: int) -> None:
    """Without the token, which is for the API alone: an S3 store refuses a request that shows it beside a signature."""
    part = await creator.signed(video_id, number, BODIES[number - 1])
    async with (
        aiohttp.ClientSession() as session,
        session.put(part["url"], data=io.BytesIO(BODIES[number - 1]), headers=part["headers"]) as answer,
    ):
        assert answer.status in (200, 204)


async def arrived(creator: Creator, video_id: str) -> list[bool]:
    return [part["arrived"] for part in (await creator.state(video_id)).body["parts"]]


def flip_part_2(api: RunningApi, request: pytest.FixtureRequest) -> None:
    if isinstance(api.stores.parts, FilePartStore):
        flip_file(next(api.stores.parts._uploads.glob("*/2.*")))
        return
    ceph: Ceph = request.getfixturevalue("ceph")
    pool = next(name for name in ceph.rados("lspools").decode().split() if name.endswith("buckets.data"))
    for name in ceph.rados("-p", pool, "ls").decode().splitlines():
        if "__multipart_" in name and name.endswith(".2"):
            body = bytearray(ceph.rados("-p", pool, "get", name, "-"))
            if bytes(body) == BODIES[1][: len(body)]:  # of this test; others left theirs
                body[1000] ^= 1
                ceph.rados("-p", pool, "put", name, "-", body=bytes(body))
                return
    raise AssertionError("the part is nowhere below the store's door")


def flip_file(file: Path) -> None:
    body = bytearray(file.read_bytes())
    body[1000] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(body))


async def test_a_damaged_part_is_named_shown_as_missing_and_alone_sent_again(
    api: RunningApi, request: pytest.FixtureRequest
) -> None:
    creator = api.creator
    video_id = (await creator.begin(len(CLIP), part_size=PART)).body["video_id"]
    for number in (1, 2):
        await send(creator, video_id, number)
    await asyncio.to_thread(flip_part_2, api, request)
    await send(creator, video_id, 3)  # local files put part 2 to part 1 only now: the last part waits for the next one
    assert await arrived(creator, video_id) == [True, True, True]

    refused = await creator.complete(video_id)
    assert (refused.status, refused.problem, refused.body["damaged"]) == (409, "parts-damaged", [2])
    assert await arrived(creator, video_id) == [True, False, True]
    assert (await creator.ask("GET", f"/api/v1/videos/{video_id}")).body["status"] == "uploading"

    await send(creator, video_id, 2)
    assert (await creator.complete(video_id)).status == 202
    master = b"".join([chunk async for chunk in api.stores.masters.read(f"masters/{video_id}/source")])
    assert master == CLIP
