"""The first window is made while the rest of the file is still on its way, and used only for the bytes that came to stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headwater.rules.names import VideoId
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import reading
from origin.catalogue.tasklog import tasks_of
from origin.transcode.metrics import EARLY
from tests.support.earlystart import NODES, PART, SECONDS, camera_clip, killed_early, small_parts
from tests.support.lab import running_lab
from tests.support.media import decode
from tests.support.origin import RunningApi, running_api
from tests.support.transcoding import Studio, quick, studio, transcoder

PATIENCE_S = 240  # early work runs at the priority of the background, and other tests may have the processors


@dataclass(frozen=True, slots=True)
class Place:
    api: RunningApi
    studio: Studio
    work: Path

    async def begin(self, content: bytes) -> tuple[VideoId, list[dict[str, Any]]]:
        begun = await self.api.creator.begin(len(content))
        assert begun.status == 201, begun
        return VideoId(begun.body["video_id"]), begun.body["upload"]["parts"]

    async def send(self, parts: list[dict[str, Any]], content: bytes) -> None:
        for part in parts:
            offset = (part["number"] - 1) * PART
            answer = await self.api.creator.put(part, content[offset : offset + part["size"]])
            assert answer.status == 204, answer

    async def begun_early(self, video_id: VideoId) -> None:
        """Returns when picture and sound are made."""
        async with asyncio.timeout(PATIENCE_S):
            while "early/audio/0" not in [task.name for task in await self.tasks(video_id) if task.state == "done"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def tasks(self, video_id: VideoId) -> list[Any]:
        async with reading(self.api.catalogue) as connection:
            return await tasks_of(connection, video_id)

    async def made(self, video_id: VideoId, folder: Path) -> None:
        """The video is whole and decodes."""
        assert (await self.studio.job_ended(video_id, PATIENCE_S)).state == "done"
        decoded = await asyncio.to_thread(decode, await self.studio.export(video_id, folder) / "master.m3u8")
        assert decoded.clean, decoded.complaints
        assert [len(times) for times in decoded.video] == [25 * SECONDS] * 2


@asynccontextmanager
async def place(deployment: Deployment, **transcode: Any) -> AsyncIterator[Place]:
    limits = deployment.origin.uploads.model_copy(update={"part_size": PART, "min_part_size": PART})
    origin = quick(deployment, vmaf_samples=0, **transcode).origin.model_copy(update={"uploads": limits})
    small = deployment.model_copy(update={"origin": origin})
    async with running_api(small) as api, studio(small) as at, transcoder(small):
        yield Place(api, at, small.data / "nodes" / "origin-transcoder" / "work")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return camera_clip(tmp_path_factory.mktemp("early") / "clip.mp4")


def outcomes() -> dict[str, float]:
    return {sample.labels["outcome"]: sample.value for sample in EARLY.collect()[0].samples if sample.name.endswith("_total")}


def more(before: dict[str, float]) -> dict[str, float]:
    found = {name: value - before.get(name, 0) for name, value in outcomes().items()}
    return {name: value for name, value in found.items() if value}


def head_and_index(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Not the middle. The first six seconds of pictures and sound are in most of the parts but not in all."""
    return [*parts[:-2], parts[-1]]


async def used(at: Place, clip: bytes, folder: Path) -> None:
    """Nothing of it is seen before its upload is complete; then it is what is published."""
    video_id, parts = await at.begin(clip)
    await at.send([parts[0], parts[-1]], clip)
    await at.send(parts[1:-2], clip)
    await at.begun_early(video_id)
    assert await at.studio.published_names(video_id) == []
    assert (await at.api.creator.ask("GET", f"/api/v1/videos/{video_id}")).body["status"] == "uploading"
    making = (await at.api.creator.ask("GET", f"/api/v1/videos/{video_id}/making")).body
    assert making["waits_for"] == "the rest of the upload; its first seconds are made already"
    await at.send([parts[-2]], clip)
    assert (await at.api.creator.complete(video_id)).status == 202
    await at.made(video_id, folder)
    took = {task.name: task.took_s for task in await at.tasks(video_id)}
    assert took["encode/240p/0"] < took["early/encode/240p/0"], "it was there"


async def sent_again(at: Place, clip: bytes, folder: Path) -> None:
    """A part comes again with other bytes, in the middle of its pictures."""
    other = bytearray(clip)
    middle = clip.index(b"mdat") + 200_000
    other[middle : middle + 2] = bytes(byte ^ 1 for byte in other[middle : middle + 2])
    video_id, parts = await at.begin(clip)
    await at.send(head_and_index(parts), bytes(other))
    await at.begun_early(video_id)
    await at.send([parts[0], parts[-2]], clip)
    assert (await at.api.creator.complete(video_id)).status == 202
    await at.made(video_id, folder)


async def damaged(at: Place, clip: bytes, folder: Path) -> None:
    """A part is damaged where it lies, and then sent again: with the digest that it had before."""
    video_id, parts = await at.begin(clip)
    await at.send([*parts[1:-2], parts[-1]], clip)
    uploads = at.studio.deployment.data / "objects" / "masters" / "uploads"
    [part] = [part for part in uploads.glob("*/2.*") if not list(part.parent.glob("1.*"))]
    spoilt = bytearray(part.read_bytes())
    spoilt[1000] ^= 1
    part.write_bytes(spoilt)
    before = outcomes()
    await at.send([parts[0]], clip)
    async with asyncio.timeout(PATIENCE_S):
        while "unsuited" not in more(before):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await at.send([parts[-2]], clip)
    refused = await at.api.creator.complete(video_id)
    assert (refused.problem, refused.body["damaged"]) == ("parts-damaged", [2])
    await at.send([parts[1]], clip)
    assert (await at.api.creator.complete(video_id)).status == 202
    await at.made(video_id, folder)


async def given_up(at: Place, clip: bytes) -> None:
    video_id, parts = await at.begin(clip)
    await at.send(head_and_index(parts), clip)
    await at.begun_early(video_id)
    assert (at.work / video_id / "openings" / "reads.json").exists()
    assert (await at.api.creator.ask("DELETE", f"/api/v1/videos/{video_id}/upload")).status == 204
    async with asyncio.timeout(PATIENCE_S):
        while (at.work / video_id).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_is_made_before_an_upload_is_complete_is_used_for_the_very_bytes_that_it_was_made_of(
    deployment: Deployment, clip: bytes, tmp_path: Path
) -> None:
    before = outcomes()
    async with place(deployment) as at, asyncio.TaskGroup() as group:
        group.create_task(damaged(at, clip, tmp_path / "damaged"))
        group.create_task(used(at, clip, tmp_path / "used"))
        group.create_task(sent_again(at, clip, tmp_path / "again"))
        group.create_task(given_up(at, clip))
    assert more(before) == {"made": 3, "used": 1, "outdated": 1, "unsuited": 1, "abandoned": 1}


async def test_a_transcoder_that_is_killed_while_it_begins_early_leaves_a_right_video(clip: bytes, tmp_path: Path) -> None:
    """One of the kills of `make drills DRILL=early`."""
    async with running_lab(tmp_path, NODES, small_parts) as lab:
        await killed_early(lab, clip, 1.2, tmp_path / "out")
