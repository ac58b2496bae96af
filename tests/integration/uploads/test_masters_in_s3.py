"""Uploads whose parts go straight to an S3 server: the API signs, checks and assembles, and never sees the bytes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from tests.support.deployments import lab_deployment
from tests.support.origin import MIB, RunningApi, running_api
from tests.support.s3server import ACCESS_KEY, SECRET_KEY, s3_server

CLIP = random.Random(5).randbytes(5 * MIB + 77)  # two parts


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with s3_server(tmp_path / "s3") as server:
        lab = lab_deployment(tmp_path)
        uploads = lab.origin.uploads.model_copy(update={"part_size": 5 * MIB})
        origin = lab.origin.model_copy(update={"masters": server.bucket("masters"), "uploads": uploads})
        yield lab.model_copy(update={"origin": origin})


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


async def master_of(api: RunningApi, video_id: str) -> bytes:
    return b"".join([chunk async for chunk in api.stores.masters.read(f"masters/{video_id}/source")])


def digests(*parts: bytes) -> dict[str, object]:
    return {"parts": [{"number": n, "sha256": hashlib.sha256(part).hexdigest()} for n, part in enumerate(parts, start=1)]}


async def test_parts_go_to_s3_and_become_the_master(api: RunningApi, deployment: Deployment) -> None:
    begun = await api.creator.begin(len(CLIP))
    video_id, (first, second) = begun.body["video_id"], begun.body["upload"]["parts"]
    assert not first["url"].startswith(deployment.origin.public_url)
    answer = await api.creator.put(first, CLIP[: 5 * MIB])
    assert answer.status == 200, answer
    assert [part["arrived"] for part in (await api.creator.state(video_id)).body["parts"]] == [True, False]
    assert (await api.creator.complete(video_id)).body["missing"] == [2]
    await api.creator.put(second, CLIP[5 * MIB :])
    for _ in range(2):
        completed = await api.creator.complete(video_id, json=digests(CLIP[: 5 * MIB], CLIP[5 * MIB :]))
        assert (completed.status, completed.body["status"]) == (202, "processing")
    assert await master_of(api, video_id) == CLIP


async def test_a_part_damaged_on_its_way_to_s3_is_found_by_the_creators_digest(api: RunningApi) -> None:
    begun = await api.creator.begin(5)
    video_id, (part,) = begun.body["video_id"], begun.body["upload"]["parts"]
    await api.creator.put(part, b"bytez")
    answer = await api.creator.complete(video_id, json=digests(b"bytes"))
    assert (answer.status, answer.problem, answer.body["damaged"]) == (409, "parts-damaged", [1])
    await api.creator.put(part, b"bytes")
    assert (await api.creator.complete(video_id, json=digests(b"bytes"))).status == 202
    assert await master_of(api, video_id) == b"bytes"
