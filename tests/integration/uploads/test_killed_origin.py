"""A real API process, killed with SIGKILL between and within the steps of an upload: what it acknowledged is there."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from tests.drills.uploads import campaign
from tests.support.deployments import lab_config
from tests.support.killedorigin import Origin, killable_origin
from tests.support.origin import MIB, Answer, Creator, content_digest

PART = 5 * MIB
CLIP = random.Random(3).randbytes(2 * PART + 99)


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    async with killable_origin(lab_config(tmp_path)) as origin:
        await origin.start()
        yield origin


async def slowly(body: bytes, half_sent: asyncio.Event) -> AsyncIterator[bytes]:
    """Half a body, and then nothing more."""
    yield body[: len(body) // 2]
    half_sent.set()
    await asyncio.Event().wait()


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_by_kill_9_between_any_two_steps(origin: Origin, tmp_path: Path) -> None:
    creator = origin.creator
    begun = await creator.begin(len(CLIP), key="one", part_size=PART)
    video_id = begun.body["video_id"]
    await origin.kill_and_start()

    again = await creator.begin(len(CLIP), key="one", part_size=PART)
    assert again.body["video_id"] == video_id
    first, second, _ = begun.body["upload"]["parts"]  # URLs signed before the kill still hold
    assert (await creator.put(first, CLIP[:PART])).status == 204
    body = CLIP[PART : 2 * PART]
    half_sent = asyncio.Event()
    headers = {"Content-Digest": content_digest(body), "Content-Length": str(len(body))}
    sending = asyncio.create_task(creator.ask("PUT", second["url"], data=slowly(body, half_sent), headers=headers))
    await half_sent.wait()
    await origin.kill_and_start()
    with pytest.raises(aiohttp.ClientError):
        await sending

    state = (await creator.state(video_id)).body
    assert [part["arrived"] for part in state["parts"]] == [True, False, False]
    await creator.put_all(state["parts"], CLIP)
    await origin.kill_and_start()
    assert all(part["arrived"] for part in (await creator.state(video_id)).body["parts"])

    for delay_s in (0.0, 0.01, 0.03):
        completing = asyncio.create_task(_completed_if_it_lives(creator, video_id))
        await asyncio.sleep(delay_s)  # a kill at an arbitrary point within `complete` is the point here
        await origin.kill_and_start()
        await completing
    completed = await creator.complete(video_id)
    assert (completed.status, completed.body["status"]) == (202, "processing")
    await origin.kill_and_start()
    assert (await creator.ask("GET", f"/api/v1/videos/{video_id}")).body["status"] == "processing"
    await origin.kill()

    with closing(sqlite3.connect(tmp_path / "data" / "catalogue.sqlite3")) as catalogue:
        assert catalogue.execute("SELECT video_id, state FROM jobs").fetchall() == [(video_id, "waiting")]
        assert catalogue.execute("SELECT count(*) FROM upload_parts").fetchone() == (3,)
        assert catalogue.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    blobs = [file for file in (tmp_path / "data" / "objects" / "masters" / "blobs").rglob("*") if file.is_file()]
    assert [file.read_bytes() == CLIP for file in blobs] == [True]


async def _completed_if_it_lives(creator: Creator, video_id: str) -> Answer | None:
    try:
        return await creator.complete(video_id)
    except aiohttp.ClientError:
        return None


@pytest.mark.slow
async def test_uploads_of_every_dialect_survive_kill_9_at_random_moments(tmp_path: Path) -> None:
    """A sample of `python -m tests.drills uploads`."""
    tally = await campaign(tmp_path, uploads=8, seed=1)
    assert tally.good, (str(tally), tally.lost, tally.wrong, tally.left_behind)
    assert tally.kills >= 1
    assert len(tally.completed) + tally.given_up == 8
