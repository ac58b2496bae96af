"""A deleted video is gone for everybody at once, and everything of it from stores and caches soon after, whatever is killed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import select

from headwater.rules.apitokens import DRAWN_BYTES, Scope, StoredToken, draw_token
from headwater.rules.mediapath import video_key
from headwater.rules.names import VideoId
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.origin import FileStore, Tier, Tiers
from origin.catalogue.deletions import held_deletions, let_go, open_deletions
from origin.catalogue.engine import reading, writing
from origin.catalogue.jobs import claim_next
from origin.catalogue.outbox import waiting_events
from origin.catalogue.schema import deletions
from origin.catalogue.tokens import keep_token
from origin.objects.interface import ObjectNotFound
from origin.removal.purging import NotPurged
from origin.removal.removing import Remover, Shelves
from origin.tiers.open import open_tiers
from origin.tiers.store import TieredStore
from tests.support.clips import flash_clip
from tests.support.origin import RunningApi, bearer, running_api
from tests.support.transcoding import quick, studio, transcoder

NAMES = ("master.m3u8", "h264/144p/init.mp4", "h264/144p/segment_00000.m4s")


class Caches:
    """Stands for control: takes a purge, or is away."""

    def __init__(self) -> None:
        self.purged: list[VideoId] = []
        self.away = False

    async def __call__(self, video_id: VideoId) -> None:
        if self.away:
            raise NotPurged("control is away")
        self.purged.append(video_id)


@pytest.fixture
def deployment(deployment: Deployment) -> Deployment:
    """With three tiers."""
    cold = Tiers(
        hot=Tier(store=FileStore(path=Path("objects/hot"))),
        warm=Tier(store=FileStore(path=Path("objects/warm"))),
        cold=Tier(store=FileStore(path=Path("objects/cold"))),
    )
    return deployment.model_copy(update={"origin": deployment.origin.model_copy(update={"tiers": cold})})


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


def remover(api: RunningApi, caches: Caches) -> Remover:
    shelves = Shelves(api.stores.published, api.stores.masters, api.stores.parts)
    return Remover(api.catalogue, shelves, caches, structlog.get_logger("test"))


async def published_in_every_tier(api: RunningApi, video_id: str) -> TieredStore:
    tiers = open_tiers(api.deployment)
    for tier, name in zip(tiers.tiers, NAMES, strict=True):
        await tier.store.put_bytes(video_key(VideoId(video_id), name), b"made", "video/mp4")
    return tiers


async def master_keys(api: RunningApi) -> list[str]:
    return [info.key async for info in api.stores.masters.list("masters/")]


@pytest.mark.both_catalogues
async def test_everything_of_a_deleted_video_goes_and_who_asks_is_told_that_it_is_gone(api: RunningApi) -> None:
    gone, kept = await api.creator.upload(b"a file that goes"), await api.creator.upload(b"a file that stays")
    tiers = await published_in_every_tier(api, gone)
    await published_in_every_tier(api, kept)
    caches = Caches()
    at = f"/api/v1/videos/{gone}"
    assert (await api.creator.ask("DELETE", at)).status == 204
    for asked in ("", "/playback", "/stream", "/making"):
        answer = await api.creator.ask("GET", at + asked)
        assert (answer.status, answer.problem) == (410, "video-gone")
    assert (await api.creator.ask("GET", "/api/v1/videos")).body["videos"][0]["video_id"] == kept

    await remover(api, caches).look_once()
    assert [info.key async for info in tiers.list(f"videos/{gone}/")] == []
    assert len([info.key async for info in tiers.list(f"videos/{kept}/")]) == len(NAMES)
    assert await master_keys(api) == [f"masters/{kept}/source"]
    assert caches.purged == [gone]
    assert await open_deletions(api.catalogue) == []
    assert [event.body["video_id"] for event in await waiting_events(api.catalogue, 9) if event.kind == "video.deleted"] == [gone]
    # Again, and it is as it was.
    assert (await api.creator.ask("DELETE", at)).status == 204
    assert (await api.creator.ask("GET", at)).status == 410
    assert (await api.creator.ask("DELETE", "/api/v1/videos/AAAAAAAAAAA")).status == 404


@pytest.mark.both_catalogues
async def test_a_master_goes_with_the_last_video_that_was_made_of_it(api: RunningApi) -> None:
    first, second = [await api.creator.upload(b"the same file") for _ in range(2)]
    caches = Caches()
    assert await master_keys(api) == [f"masters/{first}/source"]
    await api.creator.ask("DELETE", f"/api/v1/videos/{first}")
    await remover(api, caches).look_once()
    assert await master_keys(api) == [f"masters/{first}/source"]
    third = await api.creator.upload(b"the same file")  # and a deleted video's file is still known by the other one
    assert await master_keys(api) == [f"masters/{first}/source"]
    for video_id in (second, third):
        await api.creator.ask("DELETE", f"/api/v1/videos/{video_id}")
    await remover(api, caches).look_once()
    assert await master_keys(api) == []


async def test_an_upload_of_a_file_whose_only_video_is_deleted_meanwhile_keeps_its_own_bytes(api: RunningApi) -> None:
    first = await api.creator.upload(b"the same file")
    begun = await api.creator.begin(len(b"the same file"))
    await api.creator.put_all(begun.body["upload"]["parts"], b"the same file")
    known = api.intake.finishing._known

    async def deleted_in_between(*arguments: object) -> tuple[str, str] | None:
        found = await known(*arguments)  # type: ignore[arg-type]
        assert found is not None
        await api.creator.ask("DELETE", f"/api/v1/videos/{first}")
        await remover(api, Caches()).look_once()
        return found

    api.intake.finishing._known = deleted_in_between  # type: ignore[method-assign]
    second = begun.body["video_id"]
    assert (await api.creator.complete(second)).status == 202
    assert await master_keys(api) == [f"masters/{second}/source"]


async def test_deleting_a_video_that_is_being_uploaded_drops_its_parts(api: RunningApi) -> None:
    begun = await api.creator.begin(5)
    video_id, [part] = begun.body["video_id"], begun.body["upload"]["parts"]
    await api.creator.put(part, b"parts")
    assert (await api.creator.ask("DELETE", f"/api/v1/videos/{video_id}")).status == 204
    await remover(api, Caches()).look_once()
    async with reading(api.catalogue) as connection:
        upload_id = (await connection.execute(select(deletions.c.upload_id))).scalar_one()
    assert await api.stores.parts.arrived(upload_id) == []
    assert (await api.creator.put(part, b"parts")).status == 404
    assert (await api.creator.complete(video_id)).status == 404


async def token_of(api: RunningApi, name: str, scope: Scope) -> dict[str, str]:
    token = draw_token(secrets.token_bytes(DRAWN_BYTES))
    async with writing(api.catalogue) as connection:
        await keep_token(connection, StoredToken(token.id, name, token.secret_sha256, frozenset({scope}), 1.0))
    return bearer(token)


async def test_a_creator_deletes_own_videos_and_a_manager_everybodys(api: RunningApi) -> None:
    hers, his = await token_of(api, "ada", Scope.UPLOAD), await token_of(api, "bob", Scope.UPLOAD)
    boss = await token_of(api, "eve", Scope.MANAGE)
    said = {"title": "Hers", "size": 3, "content_type": "video/mp4", "filename": "a.mp4"}
    begun = await api.creator.ask("POST", "/api/v1/videos", json=said, headers=hers)
    at, other = f"/api/v1/videos/{begun.body['video_id']}", f"/api/v1/videos/{await api.creator.upload(b'another')}"
    for headers, status, problem in (
        (his, 403, "upload-not-yours"),
        ({"Authorization": "Bearer no"}, 401, "token-malformed"),
        (hers, 204, ""),
        (hers, 204, ""),
        (his, 403, "upload-not-yours"),
        (boss, 204, ""),
    ):
        answer = await api.creator.ask("DELETE", at, headers=headers)
        assert (answer.status, answer.problem) == (status, problem)
    assert (await api.creator.ask("DELETE", other, headers=boss)).status == 204


async def test_a_deletion_waits_for_control_and_a_killed_one_is_finished_by_the_next_process(api: RunningApi) -> None:
    video_id = await api.creator.upload(b"a file that goes")
    tiers = await published_in_every_tier(api, video_id)
    await api.creator.ask("DELETE", f"/api/v1/videos/{video_id}")
    caches = Caches()
    caches.away = True
    before = value("headwater_origin_deletion_failures_total", what="purge")
    await remover(api, caches).look_once()
    assert [info.key async for info in tiers.list(f"videos/{video_id}/")] == []
    assert len(await open_deletions(api.catalogue)) == 1
    assert value("headwater_origin_deletion_failures_total", what="purge") == before + 1
    caches.away = False
    await remover(api, caches).look_once()  # another process: it knows only what the catalogue says
    assert caches.purged == [video_id]
    assert await open_deletions(api.catalogue) == []


async def test_what_a_transcoder_publishes_before_it_hears_of_the_deletion_goes_too(api: RunningApi) -> None:
    video_id = await api.creator.upload(b"a file that goes")
    tiers = await published_in_every_tier(api, video_id)
    assert await claim_next(api.catalogue, "busy", time.time(), 3600.0) is not None
    await api.creator.ask("DELETE", f"/api/v1/videos/{video_id}")
    caches = Caches()
    first = remover(api, caches)
    await first.look_once()
    assert caches.purged == [video_id]
    await published_in_every_tier(api, video_id)
    await first.look_once()
    assert len(await open_deletions(api.catalogue)) == 1
    assert await held_deletions(api.catalogue, "busy") == [video_id]
    await let_go(api.catalogue, VideoId(video_id), "busy")
    await first.look_once()
    assert caches.purged == [video_id, video_id]
    assert [info.key async for info in tiers.list(f"videos/{video_id}/")] == []
    assert await open_deletions(api.catalogue) == []


async def test_a_video_that_is_being_transcoded_stops_being_made(deployment: Deployment, tmp_path: Path) -> None:
    clip = flash_clip(tmp_path / "long.mp4", seconds=40)
    slow = quick(deployment, preset="placebo", workers=1)
    async with running_api(slow) as api, studio(slow) as seen, transcoder(slow):
        video_id = VideoId(await api.creator.upload(clip.read_bytes()))
        async with asyncio.timeout(60):
            while (await seen.video(video_id)).state != "ready":  # noqa: ASYNC110 - the catalogue tells nobody
                await asyncio.sleep(0.02)
        assert (await api.creator.ask("DELETE", f"/api/v1/videos/{video_id}")).status == 204
        caches, began = Caches(), time.monotonic()
        removing = remover(api, caches)
        async with asyncio.timeout(10):
            while await open_deletions(api.catalogue):
                await removing.look_once()
                await asyncio.sleep(0.02)
        assert time.monotonic() - began < 5
        work = slow.data / "nodes" / "origin-transcoder" / "work" / video_id
        assert await asyncio.to_thread(lambda: work.is_file() and not work.stat().st_size)  # nobody makes a folder there again
        with pytest.raises(ObjectNotFound):
            await seen.published.stat(video_key(video_id, "master.m3u8"))
        assert await seen.published_names(video_id) == []
