"""The origin's byte server: published objects for shields. It serves on without catalogue and control."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headwater.runtime.httpsite import admin_app, serve_app, serve_handler
from headwater.runtime.node import NodeContext, following_snapshots
from headwater.runtime.tasks import Supervised
from origin.byteserver.accesslog import AccessLog
from origin.byteserver.handler import ByteHandler
from origin.tiers.open import open_tiers


@asynccontextmanager
async def byteserver_node(context: NodeContext) -> AsyncIterator[None]:
    """Listens while the context lasts; drains when it ends."""
    settings = context.deployment.origin.bytes
    objects = open_tiers(context.deployment)
    access_log = AccessLog()
    async with following_snapshots(context) as snapshots, Supervised(context.log) as tasks:
        tasks.start("write-access-log", access_log.write_on)
        handler = ByteHandler(objects, lambda: snapshots.current, lambda key: None, access_log, context.log, context.name)
        async with serve_app(admin_app(), settings.admin), serve_handler(handler, settings.listen):
            yield
    access_log.flush()
