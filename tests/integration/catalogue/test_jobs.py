"""The job ledger on SQLite and on PostgreSQL: many coordinators ask at once, and each job has one owner."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import chain

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import open_catalogue, writing
from origin.catalogue.jobs import Job, claim_next, finish, release, renew, requeue, unfinished, waiting
from origin.catalogue.schema import JobState, VideoState, jobs, videos

pytestmark = pytest.mark.both_catalogues

NOW = 1000.0
LEASE_S = 15.0


@pytest.fixture
async def catalogue(deployment: Deployment) -> AsyncIterator[AsyncEngine]:
    async with open_catalogue(deployment) as engine:
        yield engine


async def add_jobs(catalogue: AsyncEngine, count: int) -> list[VideoId]:
    """Jobs that wait, in the order of their making."""
    ids = [VideoId(f"{number:011d}") for number in range(count)]
    at = {video_id: {"created_at": NOW + place, "updated_at": NOW + place} for place, video_id in enumerate(ids)}
    file = {"tags": [], "filename": "a", "content_type": "a/b", "size_bytes": 1, "state": VideoState.PROCESSING}
    async with writing(catalogue) as connection:
        await connection.execute(insert(videos), [{"id": one, "title": one, **file, **at[one]} for one in ids])
        rows = [{"video_id": one, "master_key": f"m/{one}", "state": JobState.WAITING, **at[one]} for one in ids]
        await connection.execute(insert(jobs), rows)
    return ids


async def all_of(catalogue: AsyncEngine, owner: str, now: float = NOW) -> list[Job]:
    taken = []
    while (job := await claim_next(catalogue, owner, now, LEASE_S)) is not None:
        taken.append(job)
        await asyncio.sleep(0)
    return taken


async def test_many_who_ask_at_once_never_get_the_same_job(catalogue: AsyncEngine) -> None:
    ids = await add_jobs(catalogue, 24)
    shares = await asyncio.gather(*(all_of(catalogue, f"transcoder-{number}") for number in range(6)))
    assert sorted(job.video_id for job in chain.from_iterable(shares)) == ids
    assert {job.attempts for job in chain.from_iterable(shares)} == {1}


async def test_a_job_is_taken_over_when_its_lease_ran_out_and_not_a_moment_before(catalogue: AsyncEngine) -> None:
    [video_id] = await add_jobs(catalogue, 1)
    assert await claim_next(catalogue, "dead", NOW, LEASE_S)
    assert await claim_next(catalogue, "alive", NOW + LEASE_S - 0.001, LEASE_S) is None
    taken_over = await claim_next(catalogue, "alive", NOW + LEASE_S, LEASE_S)
    assert taken_over == Job(video_id, f"m/{video_id}", 2)
    # Whoever was only slow finds out, and its result does not count.
    assert not await renew(catalogue, video_id, "dead", NOW + LEASE_S, LEASE_S)
    assert not await finish(catalogue, video_id, "dead", NOW + LEASE_S)
    assert await renew(catalogue, video_id, "alive", NOW + LEASE_S, LEASE_S)
    assert await finish(catalogue, video_id, "alive", NOW + LEASE_S)
    assert await unfinished(catalogue) == frozenset()


async def test_a_lease_that_ran_out_has_one_heir(catalogue: AsyncEngine) -> None:
    await add_jobs(catalogue, 8)
    assert len(await all_of(catalogue, "dead")) == 8
    heirs = await asyncio.gather(*(all_of(catalogue, f"heir-{number}", NOW + LEASE_S) for number in range(4)))
    assert sorted(job.attempts for job in chain.from_iterable(heirs)) == [2] * 8


async def test_jobs_given_back_are_free_at_once_and_only_the_owners(catalogue: AsyncEngine) -> None:
    await add_jobs(catalogue, 3)
    for owner in ("a", "b"):
        assert await claim_next(catalogue, owner, NOW, LEASE_S)
    assert await release(catalogue, "a", NOW) == 1
    assert [job.attempts for job in await all_of(catalogue, "c")] == [2, 1]
    assert await waiting(catalogue) == 0


async def test_only_a_failed_job_is_queued_again(catalogue: AsyncEngine) -> None:
    [video_id] = await add_jobs(catalogue, 1)
    assert not await requeue(catalogue, video_id, NOW)
    await claim_next(catalogue, "a", NOW, LEASE_S)
    await finish(catalogue, video_id, "a", NOW, "worker-lost: a worker died")
    assert await requeue(catalogue, video_id, NOW)
    assert await waiting(catalogue) == 1


async def test_at_every_moment_at_most_one_owner_may_finish_a_job(catalogue: AsyncEngine) -> None:
    """A clock that jumps, owners that claim, renew, release and finish in any order: each job ends exactly once."""
    draw = random.Random(41)
    ids = await add_jobs(catalogue, 6)
    ended: list[VideoId] = []
    now = NOW
    for _ in range(200):
        now += draw.choice((0.0, 1.0, 20.0))
        owner, video_id = draw.choice("abc"), draw.choice(ids)
        match draw.randrange(4):
            case 0:
                await claim_next(catalogue, owner, now, LEASE_S)
            case 1:
                await renew(catalogue, video_id, owner, now, LEASE_S)
            case 2:
                await release(catalogue, owner, now)
            case _:
                if await finish(catalogue, video_id, owner, now):
                    ended.append(video_id)
    assert len(ended) == len(set(ended))
    assert set(ended) | await unfinished(catalogue) == set(ids)
