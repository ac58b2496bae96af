"""Two origins on two machines' worth of processes, one PostgreSQL: they share the work, no job is done twice, and what a killed
one held is taken over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from origin.catalogue.engine import catalogue_engine, catalogue_url, reading
from origin.catalogue.schema import jobs
from tests.support.clips import flash_clip
from tests.support.killedorigin import quiet_control
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.postgres import Postgres

pytestmark = pytest.mark.xdist_group("postgres")

LEASE_S = 5.0  # a busy machine may not let a healthy one say that it lives for a second or two
NODES = ("origin-api", "origin-transcoder")


@pytest.fixture
async def origins(postgres: Postgres, tmp_path: Path) -> AsyncIterator[tuple[Lab, Lab]]:
    """Each with a name, a data folder and a transcoder of its own; the catalogue and the objects are shared."""
    url, objects = postgres.database(), tmp_path / "objects"

    def shared(name: str) -> Any:
        def change(content: JsonObject) -> None:
            content["name"] = name
            content["origin"]["catalogue"] = {"url": url}
            content["origin"]["masters"] = {"kind": "files", "path": str(objects / "masters")}
            content["origin"]["tiers"] = {"hot": {"store": {"kind": "files", "path": str(objects / "hot")}}}
            content["origin"]["transcode"] |= {
                "ladder": [{"height": 144, "max_bitrate_kbps": 200}], "first_height": 144, "preset": "ultrafast",
                "poll": "50 ms", "workers": 1, "lease": f"{LEASE_S} s",
            }  # fmt: skip

        return change

    async with AsyncExitStack() as stack:
        labs = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            lab = await stack.enter_async_context(running_lab(folder, (), shared(name)))
            await stack.enter_async_context(quiet_control(lab.deployment))
            labs.append(lab)
        await asyncio.gather(*(lab.start(*NODES) for lab in labs))
        yield labs[0], labs[1]


async def rows(lab: Lab) -> dict[str, Any]:
    engine = catalogue_engine(catalogue_url(lab.deployment))
    try:
        async with reading(engine) as connection:
            found = (await connection.execute(select(jobs))).mappings().all()
    finally:
        await engine.dispose()
    return {row["video_id"]: row for row in found}


async def when(lab: Lab, is_so: Callable[[dict[str, Any]], object]) -> None:
    async with asyncio.timeout(150):
        while not is_so(await rows(lab)):  # noqa: ASYNC110 - PostgreSQL has no event for it
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_they_share_the_work_and_take_over_what_a_killed_one_held(origins: tuple[Lab, Lab], tmp_path: Path) -> None:
    one, two = origins
    short = flash_clip(tmp_path / "short.mp4", seconds=1)
    uploaded = [await lab.upload(short) for lab in (one, two, one, two)]
    # What one API has acknowledged the other knows, and both say the same of it.
    for video_id in uploaded:
        first, second = await asyncio.gather(one.whole_video(video_id), two.whole_video(video_id))
        assert (first["status"], first["renditions"]) == ("ready", second["renditions"])
    await when(one, lambda rows: {row["state"] for row in rows.values()} == {"done"})
    assert {row["attempts"] for row in (await rows(one)).values()} == {1}  # each was taken once
    made = [await lab.metric("origin-transcoder", "headwater_transcode_videos_total", outcome="done") for lab in origins]
    assert sum(made) == len(uploaded)

    long = flash_clip(tmp_path / "long.mp4", seconds=24)
    held = await two.upload(long)
    await when(one, lambda rows: rows[held]["owner"])
    owner = (await rows(one))[held]["owner"]
    holder, heir = (one, two) if owner.startswith("one/") else (two, one)
    await holder.kill("origin-transcoder")
    killed_at = time.monotonic()
    await heir.whole_video(held)
    row = (await rows(one))[held]
    assert row["attempts"] == 2
    assert time.monotonic() - killed_at > LEASE_S / 3  # not before its lease ran out, which was at most a third old
