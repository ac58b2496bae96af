"""The origin's API node: uploads, videos, playback, part URLs and pages on one listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.runtime.enrolment.adminsite import serve_admin
from headwater.runtime.forcontrol import for_control
from headwater.runtime.httpsite import admin_app, problems, serve_app
from headwater.runtime.listener import raise_file_limit
from headwater.runtime.logs import Log
from headwater.runtime.node import NodeContext, following_snapshots
from headwater.runtime.tasks import Supervised
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from origin.api.deleting import DeletingApi
from origin.api.making import Making
from origin.api.observed import answering_failures, observing
from origin.api.pages import page_routes
from origin.api.permission import Permission, own_pages
from origin.api.playback import Playback
from origin.api.requests import MAX_DIGESTS_BYTES
from origin.api.uploading import Uploading
from origin.api.views import Views
from origin.api.watching import Watching
from origin.catalogue.engine import open_catalogue
from origin.events.leaving import check_client, events_leaving
from origin.objects.endpoint import part_routes
from origin.objects.interface import ObjectStore, TierStore
from origin.objects.open import open_part_store, open_store
from origin.objects.parts import PartStore
from origin.objects.stores import report_capabilities
from origin.removal.deleting import Deleting
from origin.removal.purging import ControlPurge
from origin.removal.removing import Remover, Shelves
from origin.tiers.open import open_tiers
from origin.uploads.dialects.routes import dialect_routes
from origin.uploads.intake import Intake
from origin.uploads.leftovers import sweep_leftovers
from origin.uploads.streams import Streams
from signer.keyring import KeyRing

MOST_BETWEEN_COLLECTIONS_S = 3600.0


@dataclass(frozen=True, slots=True)
class Stores:
    """What lies on disks or at S3; `published` is all tiers as one store."""

    masters: TierStore
    parts: PartStore
    published: ObjectStore
    ring: KeyRing


def open_stores(deployment: Deployment) -> Stores:
    """Blocking; makes a first key when the ring has none."""
    origin, data = deployment.origin, deployment.data
    ring = KeyRing(data / deployment.signing.keys)
    ring.ensure(deployment.signing.algorithm)
    return Stores(
        masters=open_store(origin.masters, data),
        parts=open_part_store(origin.masters, deployment),
        published=open_tiers(deployment),
        ring=ring,
    )


def api_app(
    catalogue: AsyncEngine,
    intake: Intake,
    stores: Stores,
    snapshot: Callable[[], Snapshot],
    log: Log,
    views: Views | None = None,
    deletion_began: asyncio.Event | None = None,
) -> web.Application:
    """The application without a listener; blocking, since it reads the pages. `deletion_began` is set after each deletion.

    A request passes: observe, problem documents, failures, its handler.
    """
    app = web.Application(
        middlewares=[observing(log), problems, answering_failures(log)],
        client_max_size=MAX_DIGESTS_BYTES,
    )
    permission = Permission(
        catalogue,
        required=lambda: snapshot().deployment.origin.uploads.require_tokens,
        pages=lambda: own_pages(snapshot().deployment.origin),
    )
    seen = (views or Views(catalogue, log)).seen
    app.add_routes(Uploading(intake, permission).routes())
    app.add_routes(dialect_routes(Streams(intake), permission.creator, permission.still, snapshot().deployment.origin.public_url))
    app.add_routes(Watching(catalogue, Playback(snapshot, stores.ring), stores.published, seen).routes())
    app.add_routes(Making(catalogue, permission).routes())
    deleting = Deleting(catalogue, intake.turns, clock=intake.clock)
    app.add_routes(DeletingApi(deleting, permission, deletion_began or asyncio.Event()).routes())
    app.add_routes(part_routes(stores.parts, intake.clock, permission.still))
    app.add_routes(page_routes())
    return app


@asynccontextmanager
async def api_node(context: NodeContext) -> AsyncIterator[None]:
    raise_file_limit()  # of a streamed upload that is checked as a whole, every part is an open file until its end
    deployment = context.deployment
    if deployment.origin.events is not None:
        check_client()
    stores = await asyncio.to_thread(open_stores, deployment)
    async with (
        open_catalogue(deployment) as catalogue,
        following_snapshots(context) as follower,
        Supervised(context.log) as tasks,
    ):
        intake = Intake(catalogue, stores.parts, stores.masters, deployment.origin.uploads)
        purge = ControlPurge(lambda: follower.current.deployment, context.token, context.identity)
        remover = Remover(catalogue, Shelves(stores.published, stores.masters, stores.parts), purge, context.log)
        views = Views(catalogue, context.log)
        app = await asyncio.to_thread(
            api_app, catalogue, intake, stores, lambda: follower.current, context.log, views, remover.wake
        )
        tasks.start(
            "collect-abandoned-uploads", lambda: collecting(intake, deployment.origin.uploads.keep_unfinished, context.log)
        )
        tasks.start("sweep-leftovers", lambda: sweeping(catalogue, stores, deployment, context.log))
        tasks.start("count-views", views.keep)
        tasks.start("remove-deleted-videos", remover.remove_on)
        tasks.start("probe-stores", lambda: report_capabilities(deployment, context.log))
        tasks.start("send-events", lambda: events_leaving(catalogue, deployment.origin.events, context.log))
        admin = serve_admin(
            for_control(admin_app(), follower), deployment.origin.api.admin, context.identity, lambda: follower.current
        )
        async with admin, serve_app(app, deployment.origin.api.listen):
            yield


async def collecting(intake: Intake, keep_unfinished_s: float, log: Log) -> None:
    """Collects for ever, often enough that nothing stays much longer than it should."""
    while True:
        if finished := await Streams(intake).finish_whole():
            log.info("finished uploads that had all their bytes", uploads=finished)
        if collected := await intake.collect_abandoned():
            log.info("collected abandoned uploads", uploads=collected)
        await asyncio.sleep(min(MOST_BETWEEN_COLLECTIONS_S, keep_unfinished_s / 10))


async def sweeping(catalogue: AsyncEngine, stores: Stores, deployment: Deployment, log: Log) -> None:
    """Sweeps the store of masters for ever, not at once: a start has other things to do."""
    while True:
        await asyncio.sleep(MOST_BETWEEN_COLLECTIONS_S)
        keep_s = deployment.origin.uploads.keep_unfinished
        if swept := await sweep_leftovers(catalogue, stores.parts, stores.masters, keep_s):
            log.info("swept leftovers of uploads", swept=swept)
