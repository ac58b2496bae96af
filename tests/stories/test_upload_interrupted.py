"""Uploads that are cut off between any two steps, and uploads that nobody finishes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select, update

from headwater.rules.names import VideoId
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import reading, writing
from origin.catalogue.ledger import NewVideo, upload_of
from origin.catalogue.schema import Dialect, jobs, uploads, videos
from origin.objects.interface import ObjectInfo, ObjectNotFound
from origin.objects.parts import ArrivedPart, PartDraft, PartStore
from origin.uploads.beginning import IdempotencyKey, Wanted
from origin.uploads.creator import ANYBODY
from origin.uploads.dialects.naming import video_maker
from origin.uploads.intake import Intake
from origin.uploads.streams import Append, Streams
from tests.support.origin import RunningApi, running_api

DAY_S = 86400.0
PART_BYTES = 256 * 1024


class Killed(BaseException):
    """The process ends here."""


class DyingPartStore:
    """The real part store of a process that is killed before or after one of its calls."""

    def __init__(self, store: PartStore, call: str, *, after: bool) -> None:
        self._store = store
        self._call = call
        self._after = after

    def _die(self, call: str, *, after: bool) -> None:
        if (call, after) == (self._call, self._after):
            raise Killed

    @property
    def verifies(self) -> bool:
        return self._store.verifies

    async def draft(self, upload_id: str, number: int) -> PartDraft:
        return await self._store.draft(upload_id, number)

    def read_part(self, upload_id: str, part: ArrivedPart) -> AsyncIterator[bytes]:
        return self._store.read_part(upload_id, part)

    async def adopt(self, upload_id: str, number: int, source_id: str, part: ArrivedPart) -> bool:
        return await self._store.adopt(upload_id, number, source_id, part)

    async def sweep(self, older_than_s: float) -> int:
        return await self._store.sweep(older_than_s)

    async def free_bytes(self) -> int | None:
        return await self._store.free_bytes()

    async def begin(self, upload_id: str) -> None:
        self._die("begin", after=False)
        await self._store.begin(upload_id)
        self._die("begin", after=True)

    def part_url(self, upload_id: str, number: int, size_bytes: int, expires_at: float, token_id: str | None = None) -> str:
        return self._store.part_url(upload_id, number, size_bytes, expires_at, token_id)

    async def arrived(self, upload_id: str) -> list[ArrivedPart]:
        return await self._store.arrived(upload_id)

    async def complete(self, upload_id: str, key: str, parts: Sequence[ArrivedPart], content_type: str) -> ObjectInfo:
        self._die("complete", after=False)
        info = await self._store.complete(upload_id, key, parts, content_type)
        self._die("complete", after=True)
        return info

    async def discard(self, upload_id: str) -> None:
        self._die("discard", after=False)
        await self._store.discard(upload_id)
        self._die("discard", after=True)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


def dying(api: RunningApi, call: str, *, after: bool, clock: Clock | None = None) -> Intake:
    store = DyingPartStore(api.stores.parts, call, after=after)
    options = {"clock": clock} if clock else {}
    return Intake(api.catalogue, store, api.stores.masters, api.deployment.origin.uploads, **options)


async def job_count(api: RunningApi) -> int:
    async with reading(api.catalogue) as connection:
        return len((await connection.execute(select(jobs))).all())


@pytest.mark.parametrize("after", [False, True])
async def test_killed_around_the_assembly_the_repeated_complete_goes_on(api: RunningApi, after: bool) -> None:
    begun = await api.creator.begin(5)
    video_id = VideoId(begun.body["video_id"])
    await api.creator.put_all(begun.body["upload"]["parts"], b"bytes")
    with pytest.raises(Killed):
        await dying(api, "complete", after=after).complete(ANYBODY, video_id)
    assert await job_count(api) == 0

    state = (await api.creator.state(video_id)).body
    assert [part["arrived"] for part in state["parts"]] == [True]
    answer = await api.creator.complete(video_id)
    assert (answer.status, answer.body["status"]) == (202, "processing")
    assert await job_count(api) == 1
    assert b"".join([chunk async for chunk in api.stores.masters.read(f"masters/{video_id}/source")]) == b"bytes"


async def test_two_origins_that_complete_one_upload_at_once_make_one_job(api: RunningApi) -> None:
    """Their locks know nothing of each other: the transaction decides."""
    limits = api.deployment.origin.uploads
    origins = [Intake(api.catalogue, api.stores.parts, api.stores.masters, limits) for _ in range(3)]
    for _ in range(5):
        begun = await api.creator.begin(5)
        await api.creator.put_all(begun.body["upload"]["parts"], b"bytes")
        states = await asyncio.gather(*(origin.complete(ANYBODY, VideoId(begun.body["video_id"])) for origin in origins))
        assert {state.value for state in states} == {"processing"}
    assert await job_count(api) == 5


@pytest.mark.parametrize("after", [False, True])
async def test_killed_while_beginning_the_same_key_finds_the_upload(api: RunningApi, after: bool) -> None:

    def video(video_id: VideoId) -> NewVideo:
        return NewVideo(video_id, "t", "", (), "f", "video/mp4", 5)

    key = IdempotencyKey("key", "digest")
    with pytest.raises(Killed):
        await dying(api, "begin", after=after).begin(ANYBODY, Wanted(video), key)
    state = await api.intake.begin(ANYBODY, Wanted(video), key)
    async with reading(api.catalogue) as connection:
        assert (await connection.execute(select(videos.c.id))).scalars().all() == [state.video_id]
    await api.creator.put_all([{"url": part.url, "size": part.size_bytes, "arrived": False} for part in state.parts], b"bytes")
    assert (await api.creator.complete(state.video_id)).status == 202


async def test_parts_that_vanish_before_the_assembly_are_named_and_can_be_sent_again(api: RunningApi) -> None:
    begun = await api.creator.begin(5)
    video_id = VideoId(begun.body["video_id"])
    await api.creator.put_all(begun.body["upload"]["parts"], b"bytes")
    with pytest.raises(Killed):
        await dying(api, "complete", after=False).complete(ANYBODY, video_id)
    async with reading(api.catalogue) as connection:
        upload = await upload_of(connection, video_id)
    assert upload is not None
    await api.stores.parts.discard(upload.id)

    answer = await api.creator.complete(video_id)
    assert (answer.status, answer.problem, answer.body["missing"]) == (409, "parts-missing", [1])
    state = (await api.creator.state(video_id)).body
    assert [part["arrived"] for part in state["parts"]] == [False]
    await api.creator.put_all(state["parts"], b"bytes")
    assert (await api.creator.complete(video_id)).status == 202


async def test_a_part_that_rots_on_disk_is_named_and_can_be_sent_again(api: RunningApi) -> None:
    begun = await api.creator.begin(5)
    video_id = begun.body["video_id"]
    await api.creator.put_all(begun.body["upload"]["parts"], b"bytes")
    (part,) = (api.deployment.data / "objects" / "masters" / "uploads").rglob("1.*")
    _overwrite(part, b"rotte")
    answer = await api.creator.complete(video_id)
    assert (answer.status, answer.problem, answer.body["damaged"]) == (409, "parts-damaged", [1])
    await api.creator.put_all(begun.body["upload"]["parts"], b"bytes")
    assert (await api.creator.complete(video_id)).status == 202


def _overwrite(file: Path, content: bytes) -> None:
    file.chmod(0o600)
    file.write_bytes(content)


async def test_an_upload_that_nobody_finishes_is_collected_with_its_parts(deployment: Deployment) -> None:
    async with running_api(deployment) as api:
        clock = Clock(0.0)
        intake = Intake(api.catalogue, api.stores.parts, api.stores.masters, deployment.origin.uploads, clock=clock)
        begun = await api.creator.begin(5)
        finished = await api.creator.upload(b"whole")
        await api.creator.put_all(begun.body["upload"]["parts"], b"bytes")
        async with reading(api.catalogue) as connection:
            clock.now = max((await connection.execute(select(videos.c.created_at))).scalars())
        before = value("headwater_uploads_total", outcome="abandoned")

        clock.now += 6 * DAY_S
        assert await intake.collect_abandoned() == 0
        clock.now += 2 * DAY_S
        assert await intake.collect_abandoned() == 1
        assert await intake.collect_abandoned() == 0

        assert value("headwater_uploads_total", outcome="abandoned") == before + 1
        assert (await api.creator.state(begun.body["video_id"])).status == 404
        assert (await api.creator.put(begun.body["upload"]["parts"][0], b"bytes")).problem == "upload-unknown"
        assert (await api.creator.ask("GET", f"/api/v1/videos/{finished}")).body["status"] == "processing"


async def test_killed_while_collecting_the_next_round_collects(api: RunningApi) -> None:
    begun = await api.creator.begin(5)
    video_id = begun.body["video_id"]
    await api.creator.put_all(begun.body["upload"]["parts"], b"bytes")
    with pytest.raises(Killed):
        await dying(api, "complete", after=True).complete(ANYBODY, VideoId(video_id))  # leaves a master without a job
    async with reading(api.catalogue) as connection:
        clock = Clock((await connection.execute(select(videos.c.created_at))).scalar_one() + 8 * DAY_S)
    for after in (False, True):
        with pytest.raises(Killed):
            await dying(api, "discard", after=after, clock=clock).collect_abandoned()
        assert (await api.creator.state(video_id)).status == 200
    intake = Intake(api.catalogue, api.stores.parts, api.stores.masters, api.deployment.origin.uploads, clock=clock)
    assert await intake.collect_abandoned() == 1
    with pytest.raises(ObjectNotFound):
        await api.stores.masters.stat(f"masters/{video_id}/source")


async def test_collecting_does_not_end_the_request_of_an_old_upload_that_still_sends(api: RunningApi) -> None:
    clock, half_sent, go_on = Clock(time.time()), asyncio.Event(), asyncio.Event()
    limits = api.deployment.origin.uploads.model_copy(update={"part_size": PART_BYTES})
    intake = Intake(api.catalogue, api.stores.parts, api.stores.masters, limits, clock=clock)
    streams = Streams(intake)
    whole, part = b"x" * (PART_BYTES + 5), PART_BYTES

    async def chunks() -> AsyncIterator[bytes]:
        yield whole[:part]
        half_sent.set()
        await go_on.wait()
        yield whole[part:]

    begun = await streams.begin(ANYBODY, Wanted(video_maker(len(whole)), Dialect.TUS))
    async with writing(api.catalogue) as connection:
        await connection.execute(update(uploads).values(created_at=clock.now - 8 * DAY_S))
    sending = asyncio.create_task(streams.append(ANYBODY, begun.video_id, Append(0, chunks())))
    await half_sent.wait()
    assert await intake.collect_abandoned() == 0
    go_on.set()
    assert (await sending).finished
