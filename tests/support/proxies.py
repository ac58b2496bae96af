"""An edge as its viewers see it, in this process: the real proxy, role, store and sockets, before scripted parents."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import structlog

from edge.role import EdgeRole
from headwater.cacheproxy.front.accesslog import AccessLog
from headwater.cacheproxy.front.doors import Door, open_doors
from headwater.cacheproxy.front.fastlane import fast_lane
from headwater.cacheproxy.front.gate import Gate
from headwater.cacheproxy.front.server import ProxyServer
from headwater.cacheproxy.proxy import CachingProxy, caching_proxy
from headwater.cacheproxy.roles import Site
from headwater.cacheproxy.siblings import Siblings
from headwater.cacheproxy.store.shares import WHOLE, Share
from headwater.cacheproxy.store.store import Store
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from headwater.settings.limits import Limits
from headwater.settings.snapshot import Snapshot
from headwater.settings.units import Address
from tests.support.waiting import until

EDGE = "fra-1"


@dataclass(slots=True)
class RunningEdge:
    """`log` holds the access log's lines; `snapshot` may be replaced between requests, as control would."""

    address: Address
    proxy: CachingProxy
    client: aiohttp.ClientSession
    log: io.StringIO
    snapshot: Snapshot
    store: Store
    gate: Gate
    server: ProxyServer

    def followers(self, key: str) -> int | None:
        """How many clients follow the running fill; None when there is none."""
        fill = self.proxy.fills.running(key)
        return None if fill is None else fill.followers

    async def settled(self) -> None:
        """Waits until every fill has ended and stored what it got."""
        await until(lambda: not self.proxy.fills.busy)

    def parents_in_order(self, key: str) -> list[str]:
        name, settings = next(iter(self.snapshot.deployment.properties.items()))
        return [parent.name for parent in self.proxy._role.parents(key, Site(name, settings), self.snapshot)]

    def url(self, path: str) -> str:
        return f"{self.address.url}{path}"

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """(status, fields with names in lower case, body). Raises aiohttp.ClientError when the body is cut off."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.get(self.url(path), headers=fields) as response:
            return response.status, {name.lower(): value for name, value in response.headers.items()}, await response.read()


def with_parents(deployment: Deployment, parents: list[Address], *, signed: bool = False) -> Snapshot:
    """The deployment with these shields, and its property signed or not."""
    some = next(iter(deployment.shields.values()))
    shields = {
        f"shield-{n}": some.model_copy(update={"listen": address, "admin": Address(f"127.9.0.{n}", 1)})
        for n, address in enumerate(parents, 1)
    }
    properties = {name: one.model_copy(update={"signed": signed}) for name, one in deployment.properties.items()}
    return Snapshot(version=1, deployment=deployment.model_copy(update={"shields": shields, "properties": properties}))


class _Lines(io.StringIO):
    """The lines of an access log, those that wait for company included."""

    access_log: AccessLog

    def getvalue(self) -> str:
        self.access_log.flush()
        return super().getvalue()


@asynccontextmanager
async def running_edge(
    snapshot: Snapshot,
    folder: Path,
    settings: CacheSettings | None = None,
    *,
    limits: Limits | None = None,
    doors: Sequence[Door] = (),
    drain_s: float = 1,
    share: Share = WHOLE,
) -> AsyncIterator[RunningEdge]:
    """As one of several workers, by its `share`, the edge is alone all the same: the others are gone."""
    settings = settings or CacheSettings()
    listen = snapshot.deployment.edge(EDGE).listen
    log = structlog.get_logger().bind()
    lines = _Lines()
    access_log = lines.access_log = AccessLog("edge", lines)
    store = Store(folder / "store", settings, log, share)
    siblings = None if share.whole else Siblings(share, folder, folder / "own.sock", log)
    role = EdgeRole(EDGE, snapshot.deployment, settings.grants_remembered)
    edge: RunningEdge | None = None
    gate = Gate(limits or snapshot.deployment.edge(EDGE).limits)
    doors = doors or [Door(listen)]

    def current() -> Snapshot:
        return snapshot if edge is None else edge.snapshot

    async with (
        caching_proxy(EDGE, role, settings, store, current, "token", log, access_log, gate=gate, siblings=siblings) as proxy,
        fast_lane(EDGE, role, settings, store, current, gate, access_log) as lane,
        aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)) as client,
    ):
        server = ProxyServer(proxy.serve, gate, log, access_log.unreadable(EDGE), lane)
        async with open_doors(server, [*doors], log, drain_s=drain_s):
            await store.take_over_disk()
            edge = RunningEdge(listen, proxy, client, lines, snapshot, store, gate, server)
            yield edge
    await asyncio.sleep(0)
