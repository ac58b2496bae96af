"""A proxy as a node: snapshots, store, listeners; the same for every role."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from headwater.cacheproxy.ahead.warmapi import WarmApi
from headwater.cacheproxy.bucketcount import add_load_report
from headwater.cacheproxy.front.accesslog import AccessLog
from headwater.cacheproxy.front.doors import Door, open_doors
from headwater.cacheproxy.front.fastlane import fast_lane
from headwater.cacheproxy.front.gate import Gate
from headwater.cacheproxy.front.server import ProxyServer
from headwater.cacheproxy.operatorapi import OperatorApi
from headwater.cacheproxy.proxy import CachingProxy, caching_proxy
from headwater.cacheproxy.roles import Role
from headwater.cacheproxy.siblings import Siblings, WorkerCalls
from headwater.cacheproxy.store.purgefollower import following_purges
from headwater.cacheproxy.store.shares import Share
from headwater.cacheproxy.store.store import Store
from headwater.runtime.enrolment.adminsite import serve_admin
from headwater.runtime.forcontrol import for_control
from headwater.runtime.httpsite import admin_app, serve_handler
from headwater.runtime.listener import listening_socket, raise_file_limit
from headwater.runtime.metrics import exposition
from headwater.runtime.node import NodeContext, following_snapshots
from headwater.runtime.tasks import Supervised
from headwater.runtime.tls import Certificates, ParentCertificate
from headwater.runtime.vantage import Vantage
from headwater.runtime.workerplace import (
    WorkerPlace,
    admin_socket,
    hold_place,
    last_metrics,
    process_socket,
    sockets_folder,
)
from headwater.runtime.workers import node_of_workers
from headwater.settings.cache import CacheSettings
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Tier

# The disk is written in threads. By default such a thread gives the interpreter up every 5 ms only, and answers wait meanwhile.
THREADS_TAKE_TURNS_S: Final = 0.0005
LINGER_S: Final = 1.0  # a client that asks again within it is told that its connection ends; an idle one is closed after it
WORKER_DRAIN_S: Final = 1.0


@asynccontextmanager
async def proxy_node(context: NodeContext, role: Role, listeners: Tier, settings: CacheSettings) -> AsyncIterator[None]:
    """Serves until the context ends; then running answers finish and running fills end.

    With several `workers` this process is the parent, and each of them comes here again with its place.
    """
    raise_file_limit()
    sys.setswitchinterval(THREADS_TAKE_TURNS_S)
    if context.worker is None and listeners.workers > 1:
        sockets = [listening_socket(address, congestion=listeners.congestion, log=context.log) for address in listeners.addresses]
        async with node_of_workers(context, listeners.workers, sockets, listeners.admin):
            yield
        return
    place = context.worker or WorkerPlace(0, 1, ())
    share = Share(place.index, place.workers)
    store = Store(context.folder / "store", settings, context.log, share)
    access_log = AccessLog(role.tier)
    opened = asyncio.Event()
    gate = Gate(share.of_limits(listeners.limits))
    certificates = Certificates(listeners.tls, context.log) if listeners.tls is not None else None
    parents_tls = ParentCertificate(listeners.parent_tls, context.log) if listeners.parent_tls is not None else None
    sockets_of_node = sockets_folder(context.folder)
    own_socket = process_socket(sockets_of_node, place.index, os.getpid())
    siblings = Siblings(share, sockets_of_node, own_socket, context.log) if context.worker is not None else None
    async with (
        _leaving_metrics(last_metrics(own_socket) if siblings is not None else None),
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
            identity=context.identity,
            siblings=siblings,
            keeps_disk=not place.replaces,
        ) as proxy,
        following_purges(context, store.purges, snapshots),
        _watching_peers(context, lambda: snapshots.current, proxy) as vantage,
        _answering_siblings(siblings, proxy, store, own_socket),
        serve_admin(
            OperatorApi(store.purges, lambda: snapshots.current, proxy.explain, context.log).add_to(
                WarmApi(proxy.warmer, store, settings.negative_ttl, lambda: snapshots.current).add_to(
                    vantage(
                        add_load_report(
                            for_control(
                                admin_app(lambda: None if opened.is_set() else "the listeners are not open yet"),
                                snapshots,
                                place.index,
                            )
                        )
                    )
                )
            ),
            listeners.admin if siblings is None else admin_socket(own_socket),
            context.identity,
            lambda: snapshots.current,
        ),
        Supervised(context.log) as tasks,
        fast_lane(context.name, role, settings, store, lambda: snapshots.current, gate, access_log) as lane,
        open_doors(
            ProxyServer(proxy.serve, gate, context.log, access_log.unreadable(context.name), lane),
            doors_of(listeners, certificates, place.sockets()),
            context.log,
            linger_s=LINGER_S,
        ),
    ):
        opened.set()
        if certificates is not None:
            tasks.start("watch-certificates", certificates.watch)
        if parents_tls is not None:
            tasks.start("watch-parent-certificate", parents_tls.watch)
        if siblings is not None:
            hold_place(sockets_of_node, place.index)
        yield


@asynccontextmanager
async def _watching_peers(
    context: NodeContext, snapshot: Callable[[], Snapshot], proxy: CachingProxy
) -> AsyncIterator[Callable[[web.Application], web.Application]]:
    """Checks the node's peers for control; gives what adds the report to the admin site. A node of several workers has no one
    process to do it, and leaves it to others."""
    if context.worker is not None:
        yield lambda app: app
        return
    vantage = Vantage(context.name, snapshot, proxy.troubles)
    async with Supervised(context.log) as tasks:
        tasks.start("watch-peers", vantage.watch)
        yield vantage.add_to


@asynccontextmanager
async def _answering_siblings(
    siblings: Siblings | None, proxy: CachingProxy, store: Store, own_socket: Path
) -> AsyncIterator[None]:
    """The socket at which the other workers and the parent find this one, if it is one of several."""
    if siblings is None:
        yield
        return
    calls = WorkerCalls(siblings, proxy.serve_worker, store.take_over_disk)
    async with serve_handler(calls.answer, own_socket, drain_s=WORKER_DRAIN_S, handler_cancellation=True):
        yield


@asynccontextmanager
async def _leaving_metrics(file: Path | None) -> AsyncIterator[None]:
    """At the end, when nothing is counted any more, leaves what was counted for the parent, which adds it up."""
    yield
    if file is not None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(file.write_bytes, exposition()[0])


def doors_of(listeners: Tier, certificates: Certificates | None, inherited: Sequence[socket.socket] = ()) -> list[Door]:
    """The node's listeners for clients, in the order of `Tier.addresses`; `inherited` are their sockets, if there are any."""
    secured = [None] if certificates is None else [None, certificates]
    sockets: Sequence[socket.socket | None] = inherited or [None] * len(secured)
    return [
        Door(address, tls, listeners.proxy_protocol, listeners.congestion, listener)
        for address, tls, listener in zip(listeners.addresses, secured, sockets, strict=True)
    ]
