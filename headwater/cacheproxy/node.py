"""A proxy as a node: snapshots, store, listeners; the same for every role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headwater.cacheproxy.accesslog import AccessLog
from headwater.cacheproxy.operatorapi import OperatorApi
from headwater.cacheproxy.proxy import caching_proxy
from headwater.cacheproxy.purgefollower import following_purges
from headwater.cacheproxy.roles import Role
from headwater.cacheproxy.store import Store
from headwater.runtime.httpsite import admin_app, serve_app, serve_handler
from headwater.runtime.node import NodeContext, following_snapshots
from headwater.settings.cache import CacheSettings
from headwater.settings.topology import Node


@asynccontextmanager
async def proxy_node(context: NodeContext, role: Role, listeners: Node, settings: CacheSettings) -> AsyncIterator[None]:
    """Serves until the context ends; then running answers finish and running fills end."""
    store = Store(context.folder / "store", settings, context.log)
    access_log = AccessLog(role.tier)
    operators = OperatorApi(store.purges, lambda: snapshots.current, context.log)
    async with (
        following_snapshots(context) as snapshots,
        caching_proxy(
            context.name, role, settings, store, lambda: snapshots.current, context.token, context.log, access_log
        ) as proxy,
        following_purges(context, store.purges, snapshots),
        serve_app(operators.add_to(admin_app()), listeners.admin),
        # A client that leaves cancels its handler, so that a fill learns that nobody follows it any more.
        serve_handler(proxy.serve, listeners.listen, handler_cancellation=True),
    ):
        yield
