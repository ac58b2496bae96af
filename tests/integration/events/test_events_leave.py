"""`upload.complete` reaches a real NATS JetStream at least once, whatever dies in between, and sent again it changes nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest
import structlog
import yaml
from sqlalchemy import update

from headwater.runtime.metrics import value
from headwater.settings.load import load_deployment
from headwater.settings.origin import Events
from origin.catalogue.engine import writing
from origin.catalogue.outbox import count_waiting, forget_events, waiting_events
from origin.catalogue.ownertoken import ensure_creator_token
from origin.catalogue.schema import outbox
from origin.events.leaving import events_leaving
from tests.support.deployments import lab_config, lab_deployment
from tests.support.killedorigin import Origin, quiet_control
from tests.support.nats import NatsServer, nats_server
from tests.support.origin import RunningApi, bearer, running_api
from tests.support.waiting import until

STREAM = "HEADWATER"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RunningApi]:
    async with running_api(lab_deployment(tmp_path)) as running:
        yield running


@asynccontextmanager
async def leaving(api: RunningApi, server: NatsServer) -> AsyncIterator[None]:
    task = asyncio.create_task(events_leaving(api.catalogue, Events(nats=server.url), structlog.get_logger()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_left(api: RunningApi) -> None:
    async with asyncio.timeout(30):
        while await count_waiting(api.catalogue):  # noqa: ASYNC110 - the catalogue has no event to wait for
            await asyncio.sleep(0.05)


async def test_a_completed_upload_is_told_once_with_what_a_consumer_needs(api: RunningApi, server: NatsServer) -> None:
    await server.start()
    async with leaving(api, server):
        video_id = await api.creator.upload(b"a clip")
        assert (await api.creator.complete(video_id)).status == 202  # completing again tells nothing again
        await all_left(api)
    [told] = await server.messages(STREAM)
    assert told["kind"] == "upload.complete"
    assert (told["video_id"], told["size_bytes"], len(told["sha256"])) == (video_id, 6, 64)


async def test_what_is_sent_again_is_kept_once(api: RunningApi, server: NatsServer) -> None:
    await server.start()
    async with leaving(api, server):
        await api.creator.upload(b"a clip")
        await all_left(api)
        # As if the process had been killed after the stream's answer and before it noted it.
        async with writing(api.catalogue) as connection:
            await connection.execute(update(outbox).values(published_at=None))
        before = value("headwater_origin_events_published_total", kind="upload.complete")
        await all_left(api)
        await until(lambda: value("headwater_origin_events_published_total", kind="upload.complete") > before)
    assert len(await server.messages(STREAM)) == 1


async def test_while_nats_is_away_uploads_go_on_and_their_events_leave_later(api: RunningApi, server: NatsServer) -> None:
    failed = value("headwater_origin_events_failed_total")
    async with leaving(api, server):
        first = await api.creator.upload(b"before it starts")
        await until(lambda: value("headwater_origin_events_failed_total") > failed)
        assert [event.body["video_id"] for event in await waiting_events(api.catalogue, 10)] == [first]
        await server.start()
        await all_left(api)
        await server.kill()
        second = await api.creator.upload(b"while it is dead")
        await server.start()
        await all_left(api)
    assert [told["video_id"] for told in await server.messages(STREAM)] == [first, second]


async def test_without_nats_events_stay_in_the_catalogue_for_a_while(api: RunningApi) -> None:
    await api.creator.upload(b"a clip")
    [event] = await waiting_events(api.catalogue, 10)
    assert await forget_events(api.catalogue, event.created_at, unpublished=True) == 0
    assert await forget_events(api.catalogue, event.created_at + 1, unpublished=False) == 0
    assert await forget_events(api.catalogue, event.created_at + 1, unpublished=True) == 1


async def test_an_origin_killed_between_commit_and_publish_tells_it_when_it_is_back(server: NatsServer, tmp_path: Path) -> None:
    config = lab_config(tmp_path)
    content = yaml.safe_load(config.read_text())
    content["origin"]["events"] = {"nats": server.url}
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    deployment = load_deployment(config)
    headers = bearer(await ensure_creator_token(deployment))
    async with quiet_control(deployment), aiohttp.ClientSession(deployment.origin.api.listen.url, headers=headers) as session:
        origin = Origin(config, deployment, session)
        await origin.start()
        try:
            video_id = await origin.creator.upload(b"a clip")  # nobody takes its event: NATS does not run
            await origin.kill()
            await server.start()
            await origin.start()
            await until(lambda: _published(deployment.data / "catalogue.sqlite3"))
        finally:
            await origin.kill()
    assert [told["video_id"] for told in await server.messages(STREAM)] == [video_id]


def _published(catalogue: Path) -> bool:
    with closing(sqlite3.connect(catalogue)) as connection:
        return connection.execute("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL").fetchone() == (1,)
