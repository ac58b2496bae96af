"""Fetching what a viewer will ask next: after each answer of an edge, within a budget, and behind every viewer's own fill.

What is to be fetched is decided by `headwater.rules.prefetching`; whether this viewer may have it, by the role, as for a request.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from headwater.cacheproxy.ahead.warming import Warmer
from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fills.fillregistry import Fills
from headwater.cacheproxy.front.gate import Gate
from headwater.cacheproxy.metrics import PREFETCH_SKIPPED
from headwater.cacheproxy.roles import Refused, Role, Site
from headwater.cacheproxy.siblings import Siblings
from headwater.cacheproxy.store.rambody import RamBody
from headwater.cacheproxy.store.store import Store
from headwater.rules.aheaduse import Why
from headwater.rules.prefetching import Budget, Skipped, following, may_begin, next_named, playlist_of, resolved
from headwater.rules.requesttarget import BadTarget, parse_target
from headwater.rules.warmorder import Wanted
from headwater.settings.cache import CacheSettings
from headwater.settings.snapshot import Snapshot

TIER = "edge"  # a shield's clients are edges, which fetch ahead themselves


class Prefetcher:
    """One process's fetches ahead. `close` must be called at the end."""

    def __init__(
        self,
        role: Role,
        settings: CacheSettings,
        store: Store,
        fills: Fills,
        warmer: Warmer,
        gate: Gate | None,
        siblings: Siblings | None,
    ) -> None:
        self._role = role
        self._settings = settings.prefetch if role.tier == TIER else None
        self._connections = settings.parent_connections
        self._store = store
        self._fills = fills
        self._warmer = warmer
        self._gate = gate
        self._siblings = siblings
        self._budget = Budget(self._settings.bandwidth / store.share.workers) if self._settings else None
        self._running: set[asyncio.Task[None]] = set()

    def answered(self, exchange: Exchange) -> None:
        """A request is over: notes that its object was of use, and begins to fetch what its viewer will want next."""
        if exchange.key is None or exchange.status not in (200, 206) or exchange.cut_off or exchange.method != "GET":
            return
        self._store.ahead.asked(exchange.key, for_worker=exchange.for_worker)
        if self._settings is None or exchange.for_worker or exchange.site is None:
            return
        for path in self._next(exchange, exchange.site, self._settings.ahead):
            self._consider(exchange, exchange.site, path)

    def give_way(self) -> None:
        """A viewer's fill begins: when connections to parents run short, what is fetched ahead is given up."""
        if self._running and self._fills.under_way >= max(1, self._connections // 2):
            for task in self._running:
                task.cancel()

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _next(self, exchange: Exchange, site: Site, ahead: int) -> tuple[str, ...]:
        """The paths of the objects that the viewer will want next."""
        if exchange.target is None or exchange.passage is None:
            return ()
        path, target = exchange.passage.path, exchange.target
        named = next_named(target.query, exchange.fields)
        if named is None:
            return following(path, ahead, self._playlist(path, site))
        found = resolved(named, target.path, path)
        if found is None:
            PREFETCH_SKIPPED.labels(Skipped.REFUSED).inc()
            return ()
        return (found, *following(found, ahead - 1, self._playlist(found, site)))

    def _playlist(self, path: str, site: Site) -> str | None:
        """The text of the media playlist beside a segment, when it is in memory."""
        beside = playlist_of(path)
        stored = self._store.in_ram(f"{site.name}{beside}") if beside else None
        if stored is None or stored.metadata.status != 200 or not isinstance(stored.body, RamBody):
            return None
        return stored.body.data.decode("utf-8", "replace")

    def _consider(self, exchange: Exchange, site: Site, path: str) -> None:
        key = f"{site.name}{path}"
        if self._store.is_known(key) or self._fills.running(key) is not None:
            return
        reason = self._why_not(exchange, site, path)
        if reason is not None:
            PREFETCH_SKIPPED.labels(reason).inc()
            return
        task = asyncio.create_task(self._fetch(key, site, exchange.snapshot), name=f"prefetch {key}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _why_not(self, exchange: Exchange, site: Site, path: str) -> Skipped | None:
        assert self._settings is not None
        assert self._budget is not None
        if not self._covered(exchange, site, path):
            return Skipped.REFUSED
        if not may_begin(self._fills.under_way, len(self._running), self._connections, self._settings.at_once):
            return Skipped.BUSY
        if self._gate is not None and (self._gate.leaving or self._gate.overloaded() is not None):
            return Skipped.BUSY
        return None if self._budget.allows(asyncio.get_running_loop().time()) else Skipped.BUDGET

    def _covered(self, exchange: Exchange, site: Site, path: str) -> bool:
        """Whether this very viewer might ask for it now, as it asked for the last one."""
        assert exchange.target is not None
        assert exchange.passage is not None
        before = exchange.target.path.removesuffix(exchange.passage.path)
        try:
            target = replace(parse_target(f"{before}{path}"), query=exchange.target.query)
            if self._role.admit(exchange.request, target, exchange.snapshot) != site:
                return False
            passage = self._role.authorise(exchange.request, target, site, exchange.snapshot, exchange.client, exchange.now)
        except (BadTarget, Refused):
            return False
        return passage.path == path

    async def _fetch(self, key: str, site: Site, snapshot: Snapshot) -> None:
        assert self._budget is not None
        if (await self._store.peek(key))[0] != "nowhere":
            return  # another worker keeps it
        order = self._warmer.order(Wanted(key), site, snapshot)
        if not all(parent.ours for parent in order.parents):
            return  # an ordinary site's own server is asked what viewers ask, and nothing else
        owner = self._siblings.owner_of(key, site) if self._siblings is not None else None
        if owner is not None:
            order = replace(order, parents=(owner, *order.parents))
        await self._warmer.fetch(order, Why.PREFETCH, self._took)

    def _took(self, size_bytes: int) -> None:
        assert self._budget is not None
        self._budget.took(size_bytes, asyncio.get_running_loop().time())
