"""The disk of the origin's objects is full: parts are refused by name, nothing acknowledged is lost, and work waits for room."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.origin import FileStore
from origin.catalogue.engine import open_catalogue, reading
from origin.catalogue.jobs import claim_next, set_aside
from origin.catalogue.schema import jobs
from origin.objects.fileparts import FilePartStore
from tests.support.clips import flash_clip
from tests.support.deployments import lab_deployment
from tests.support.origin import MIB, RunningApi, running_api
from tests.support.transcoding import quick, studio, transcoder

PART = 5 * MIB
CLIP = random.Random(5).randbytes(PART + 17)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 14 MiB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", folder], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("needs root and the right to mount a tmpfs, for a disk that can be full")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def deployment(tmp_path: Path, small_disk: Path) -> Deployment:
    deployment = lab_deployment(tmp_path)
    uploads = deployment.origin.uploads.model_copy(update={"keep_free": 0})
    origin = deployment.origin.model_copy(update={"masters": FileStore(path=small_disk / "masters"), "uploads": uploads})
    return deployment.model_copy(update={"origin": origin})


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


def fill(file: Path) -> None:
    """To the last block."""
    with file.open("wb", buffering=0) as growing, contextlib.suppress(OSError):
        while True:
            growing.write(bytes(4096))


async def test_a_part_that_finds_no_room_is_refused_by_name_and_goes_in_once_there_is_some(
    api: RunningApi, small_disk: Path
) -> None:
    begun = await api.creator.begin(len(CLIP), part_size=PART)
    video_id, [first, second] = begun.body["video_id"], begun.body["upload"]["parts"]
    assert (await api.creator.put(second, CLIP[PART:])).status == 204
    other = small_disk / "somebody-elses"
    other.write_bytes(bytes(11 * MIB))
    before = value("headwater_origin_part_puts_total", outcome="disk-full")
    refused = await api.creator.put(first, CLIP[:PART])
    assert (refused.status, refused.problem) == (507, "disk-full")
    assert value("headwater_origin_part_puts_total", outcome="disk-full") == before + 1
    assert [part["arrived"] for part in (await api.creator.state(video_id)).body["parts"]] == [False, True]

    other.unlink()
    assert (await api.creator.put(first, CLIP[:PART])).status == 204
    assert isinstance(api.stores.parts, FilePartStore)
    for _ in range(3):  # the first part may be put into the master ahead, or not: what counts is the room that is left then
        await asyncio.to_thread(api.stores.parts._ahead.finish)
    await asyncio.to_thread(fill, other)  # the master has no room beside its parts
    refused = await api.creator.complete(video_id)
    assert (refused.status, refused.problem) == (507, "disk-full")
    other.unlink()
    assert (await api.creator.complete(video_id)).status == 202


async def test_a_part_too_small_to_be_written_before_its_end_is_refused_by_name_too(api: RunningApi, small_disk: Path) -> None:
    """It waits in a buffer, which is written when the body has ended, and once more when the file is closed."""
    begun = await api.creator.begin(len(CLIP), part_size=PART)
    last = begun.body["upload"]["parts"][1]
    await asyncio.to_thread(fill, small_disk / "somebody-elses")
    refused = await api.creator.put(last, CLIP[PART:])
    assert (refused.status, refused.problem) == (507, "disk-full")


async def test_a_job_set_aside_says_why_and_is_taken_again_later(deployment: Deployment) -> None:
    async with running_api(deployment) as api:
        video_id = await api.creator.upload(b"a clip")
    async with open_catalogue(deployment) as catalogue:
        job = await claim_next(catalogue, "a", 100.0, 15.0)
        assert job is not None
        assert await set_aside(catalogue, job.video_id, "a", 115.0, "disk-full: free space")
        assert not await set_aside(catalogue, job.video_id, "b", 500.0, "not mine")
        assert await claim_next(catalogue, "b", 114.0, 15.0) is None
        async with reading(catalogue) as connection:
            assert (await connection.execute(select(jobs.c.video_id, jobs.c.error))).all() == [
                (video_id, "disk-full: free space")
            ]
        assert await claim_next(catalogue, "b", 115.0, 15.0) is not None


async def test_a_full_disk_inside_ffmpeg_sets_the_video_aside_and_it_goes_on_with_all_its_rungs(
    tmp_path: Path, small_disk: Path
) -> None:
    deployment = quick(lab_deployment(tmp_path), lease=4.0, range_segments=1)
    nodes = deployment.data / "nodes" / "origin-transcoder"
    nodes.mkdir(parents=True)
    (small_disk / "work").mkdir()
    (nodes / "work").symlink_to(small_disk / "work", target_is_directory=True)
    clip = await asyncio.to_thread(flash_clip, tmp_path / "clip.mp4", seconds=9)
    other = small_disk / "somebody-elses"
    await asyncio.to_thread(fill, other)
    with other.open("r+b") as file:  # room for the probe and the beginning of an encode
        file.truncate(other.stat().st_size - 64 * 1024)
    async with studio(deployment) as seen:
        video_id = await seen.upload("fulldisk000", clip)
        async with transcoder(deployment):
            async with asyncio.timeout(60):
                while not ((job := await seen.job(video_id)).error or "").startswith("disk-full"):  # noqa: ASYNC110 - a ledger
                    await asyncio.sleep(0.05)
            assert "free space where the transcoder works" in job.error
            assert (await seen.video(video_id)).state != "failed"
            other.unlink()
            ended = await seen.job_ended(video_id)
        assert (ended.state, ended.error) == ("done", None)
        rows = await seen.renditions(video_id)
        assert {name: row.state for name, row in rows.items()} == dict.fromkeys(["h264/144p", "h264/240p", "aac/128k"], "ready")
