"""The origin's byte server: published objects for shields, and the mover between tiers. Needs neither catalogue nor control."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from headwater.runtime.enrolment.adminsite import serve_admin
from headwater.runtime.forcontrol import for_control
from headwater.runtime.httpsite import admin_app, serve_handler
from headwater.runtime.node import NodeContext, following_snapshots
from headwater.runtime.tasks import Supervised
from headwater.runtime.tls import Certificates
from origin.byteserver.accesslog import AccessLog
from origin.byteserver.handler import ByteHandler
from origin.tiers.mover import Mover
from origin.tiers.open import open_tiers, tier_rules
from origin.tiers.tracker import AccessTracker


@asynccontextmanager
async def byteserver_node(context: NodeContext) -> AsyncIterator[None]:
    """Listens while the context lasts; drains when it ends."""
    settings = context.deployment.origin.bytes
    objects = open_tiers(context.deployment)
    access_log = AccessLog()
    tracker = AccessTracker(context.folder / "heat.sqlite3", time.time, context.log)
    mover = Mover(objects, tier_rules(context.deployment), tracker, time.time, context.log)
    async with following_snapshots(context) as snapshots, Supervised(context.log) as tasks:
        tasks.start("write-access-log", access_log.write_on)
        tasks.start("write-read-counts", tracker.flush_on)
        tasks.start("move-between-tiers", lambda: mover.move_on(context.deployment.origin.tiers.review))
        handler = ByteHandler(objects, lambda: snapshots.current, tracker.record, access_log, context.log, context.name)
        async with AsyncExitStack() as listeners:
            await listeners.enter_async_context(
                serve_admin(for_control(admin_app(), snapshots), settings.admin, context.identity, lambda: snapshots.current)
            )
            await listeners.enter_async_context(serve_handler(handler, settings.listen))
            if settings.tls is not None:
                certificates = Certificates(settings.tls, context.log)
                tasks.start("watch-certificates", certificates.watch)
                secured = serve_handler(handler, settings.tls.listen, tls=certificates.context)
                await listeners.enter_async_context(secured)
            yield
    access_log.flush()
    await tracker.flush()
