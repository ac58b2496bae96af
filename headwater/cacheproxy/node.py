"""A proxy as a node: snapshots, store, listeners; the same for every role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headwater.cacheproxy.accesslog import AccessLog
from headwater.cacheproxy.doors import Door, open_doors
from headwater.cacheproxy.fastlane import fast_lane
from headwater.cacheproxy.gate import Gate
from headwater.cacheproxy.operatorapi import OperatorApi
from headwater.cacheproxy.proxy import caching_proxy
from headwater.cacheproxy.purgefollower import following_purges
from headwater.cacheproxy.roles import Role
from headwater.cacheproxy.server import ProxyServer
from headwater.cacheproxy.store import Store
from headwater.runtime.httpsite import admin_app, serve_app
from headwater.runtime.listener import raise_file_limit
from headwater.runtime.node import NodeContext, following_snapshots
from headwater.runtime.tasks import Supervised
from headwater.runtime.tls import Certificates, parent_context
from headwater.settings.cache import CacheSettings
from headwater.settings.topology import Tier


@asynccontextmanager
async def proxy_node(context: NodeContext, role: Role, listeners: Tier, settings: CacheSettings) -> AsyncIterator[None]:
    """Serves until the context ends; then running answers finish and running fills end."""
    raise_file_limit()
    store = Store(context.folder / "store", settings, context.log)
    access_log = AccessLog(role.tier)
    gate = Gate(listeners.limits)
    certificates = Certificates(listeners.tls, context.log) if listeners.tls is not None else None
    parents_tls = parent_context(listeners.parent_tls) if listeners.parent_tls is not None else None
    async with (
        following_snapshots(context) as snapshots,
        caching_proxy(
            context.name,
            role,
            settings,
            store,
            lambda: snapshots.current,
            context.token,
            context.log,
            access_log,
            gate=gate,
            parents_tls=parents_tls,
        ) as proxy,
        following_purges(context, store.purges, snapshots),
        serve_app(
            OperatorApi(store.purges, lambda: snapshots.current, proxy.explain, context.log).add_to(admin_app()), listeners.admin
        ),
        Supervised(context.log) as tasks,
        fast_lane(context.name, role, settings, store, lambda: snapshots.current, gate, access_log) as protocol,
        open_doors(
            ProxyServer(proxy.serve, gate, context.log, access_log.unreadable(context.name), protocol),
            doors_of(listeners, certificates),
            context.log,
        ),
    ):
        if certificates is not None:
            tasks.start("watch-certificates", certificates.watch)
        yield


def doors_of(listeners: Tier, certificates: Certificates | None) -> list[Door]:
    """The node's listeners for clients."""
    doors = [Door(listeners.listen, None, listeners.proxy_protocol, listeners.congestion)]
    if listeners.tls is not None and certificates is not None:
        doors.append(Door(listeners.tls.listen, certificates.context, listeners.proxy_protocol, listeners.congestion))
    return doors
