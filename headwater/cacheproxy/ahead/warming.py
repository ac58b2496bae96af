"""Fetching objects before anybody asks for them, on control's order: bounded, shared with running fills, counted.

A cache that loses buckets gives what it holds to those that gain them, at its admin address: only what is fresh and whole, and
only when it has carried out every purge that the asker has, so that nothing purged comes back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from headwater.cacheproxy.ahead.warmslices import Fetched, fetch_slices, from_sources_only
from headwater.cacheproxy.fills.fillorders import FillOrder
from headwater.cacheproxy.fills.fillregistry import Fills
from headwater.cacheproxy.fills.fills import Fill
from headwater.cacheproxy.fills.parents import Parent, ParentClient
from headwater.cacheproxy.metrics import WARM_BYTES, WARM_OBJECTS, WARM_SOURCE
from headwater.cacheproxy.roles import PROPERTY_HEADER, Role, Site
from headwater.cacheproxy.siblings import Siblings
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.shares import WHOLE, Share
from headwater.cacheproxy.store.spool import SpoolBroken
from headwater.cacheproxy.store.store import Store, Stored
from headwater.cacheproxy.store.variants import MARKER_STATUS
from headwater.rules.aheaduse import Why
from headwater.rules.fields import Fields
from headwater.rules.fill import FillState
from headwater.rules.freshness import Reuse, decide_reuse
from headwater.rules.warmorder import Wanted, WarmOrder, WarmOutcome, WarmReport
from headwater.runtime.enrolment.links import admin_site
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.settings.deployment import nodes_of
from headwater.settings.snapshot import Snapshot

STORED_PATH: Final = "/stored"  # on the admin address: `/stored/{property}{path}`
PURGES_HEADER: Final = "Headwater-Purges"  # up to which purge the asker's store is accounted for
CACHES: Final = ("edge", "shield")


class Warmer:
    """One process's part of warm orders: the objects of its `share`."""

    def __init__(
        self,
        node: str,
        role: Role,
        store: Store,
        fills: Fills,
        client: ParentClient,
        snapshot: Callable[[], Snapshot],
        token: str,
        share: Share = WHOLE,
        siblings: Siblings | None = None,
    ) -> None:
        self._node = node
        self._role = role
        self._store = store
        self._fills = fills
        self._client = client
        self._snapshot = snapshot
        self._token = token
        self._share = share
        self._siblings = siblings

    async def carry_out(self, order: WarmOrder) -> WarmReport:
        """Fetches what is not here yet, `order.concurrency` objects at a time. Objects of other workers are theirs."""
        report = WarmReport()
        pace = Pace(order.bandwidth_bps)
        waiting = [one for one in reversed(order.objects) if self._share.owns(one.key)]

        async def work() -> None:
            while waiting:
                wanted = waiting.pop()
                await pace.turn()
                await self._warm(wanted, order.why, report, pace)

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(order.concurrency, len(waiting))):
                workers.create_task(work())
        return report

    async def _warm(self, wanted: Wanted, why: Why, report: WarmReport, pace: Pace) -> None:
        """Sees to one object, all slices of a large one included."""
        place, held = await self._store.peek(wanted.key)
        outcome, size_bytes, parent, reason = WarmOutcome.PRESENT, 0, None, ""
        snapshot = self._snapshot()
        site = _site_of(wanted.key, snapshot)
        if site is None:
            if place == "nowhere":
                outcome, reason = WarmOutcome.FAILED, "of no property of this deployment"
        else:
            order = self.order(wanted, site, snapshot)
            if place == "nowhere":
                outcome, size_bytes, parent, reason = await self.fetch(order, why, pace.took)
                held = (await self._store.peek(wanted.key))[1] if outcome is WarmOutcome.FETCHED else None
            if held is not None and held.is_head:
                fetched = await self._slices(wanted, held, order, site, snapshot, pace)
                size_bytes += fetched.size_bytes
                if fetched.slices or fetched.missing:
                    outcome = WarmOutcome.FETCHED
                if fetched.missing and not (wanted.sources and fetched.slices):
                    outcome, reason = WarmOutcome.FAILED, f"{fetched.missing} slices of it could not be had"
        WARM_OBJECTS.labels(outcome).inc()
        WARM_BYTES.inc(size_bytes)
        report.note(wanted.key, outcome, size_bytes, parent, reason)

    async def _slices(
        self, wanted: Wanted, head: Metadata, order: FillOrder, site: Site, snapshot: Snapshot, pace: Pace
    ) -> Fetched:
        """What is missing of an object in slices. Of one that another cache holds, what it holds from its beginning on: that
        saves the site the trouble, and what nobody watched there need not come here. Other workers fetch their own slices."""
        siblings = None if wanted.sources else self._siblings
        sources = len(order.parents) - len(self._role.parents(wanted.key, site, snapshot))
        return await fetch_slices(
            head,
            from_sources_only(order, sources),
            self._store,
            self._fills,
            lambda key: None if siblings is None else siblings.owner_of(key, site),
            followed_to_its_end,
            pace.turn,
            pace.took,
            from_its_beginning=sources > 0,
        )

    def order(self, wanted: Wanted, site: Site, snapshot: Snapshot) -> FillOrder:
        """What a fill of the object is to ask."""
        parents = self._client.by_readiness(self._role.parents(wanted.key, site, snapshot))
        ours = all(parent.ours for parent in parents)
        own: Fields = ((NODE_HEADER, self._token), (PROPERTY_HEADER, site.name)) if ours else ()
        hop: Fields = (("Via", f"1.1 {self._node}"), ("CDN-Loop", self._node), ("Accept-Encoding", "identity"))
        adds: Fields = ((PURGES_HEADER, str(self._store.purges.sequence)), *(() if ours else ((NODE_HEADER, self._token),)))
        roles = nodes_of(snapshot.deployment)
        names = [name for name in wanted.sources if roles.get(name) in CACHES and name != self._node]
        sites = {name: admin_site(self._client.identity, snapshot.deployment, name) for name in names}
        sources = [
            Parent(name, f"{one.url}{STORED_PATH}/{site.name}", adds=adds, tls=one.tls.get("ssl")) for name, one in sites.items()
        ]
        path = wanted.key.removeprefix(site.name)
        return FillOrder(wanted.key, path, (*self._client.by_readiness(sources), *parents), (*own, *hop))

    async def fetch(self, order: FillOrder, why: Why, took: Callable[[int], None]) -> tuple[WarmOutcome, int, str | None, str]:
        """(outcome, bytes, who gave it, why not). What nobody else was fetching is counted under `why`, and its use too. `took`
        is told of all bytes that came, also of what broke off or was given up."""
        fill = self._fills.running(order.key)
        if fill is None:
            fill = self._fills.start(order)
            self._store.ahead.begins(order.key, why)
        fetched_bytes: int | None = None
        try:
            found = await self._followed_to_the_store(order, fill)
            fetched_bytes = found[1] if found[0] is WarmOutcome.FETCHED else None
            return found
        finally:
            took(fill.machine.received)
            self._store.ahead.ends(order.key, fetched_bytes)

    async def _followed_to_the_store(self, order: FillOrder, fill: Fill) -> tuple[WarmOutcome, int, str | None, str]:
        try:
            size_bytes = await followed_to_its_end(fill)
        except SpoolBroken:
            return WarmOutcome.FAILED, 0, None, f"no parent could give it ({fill.machine.trouble})"
        header = fill.header
        if header is None or header.status != 200:
            return WarmOutcome.FAILED, 0, None, f"status {header.status}" if header else "no answer"
        place, _ = await self._store.peek(order.key)
        if place == "nowhere" and not fill.given_by_owner:
            return WarmOutcome.FAILED, size_bytes, header.parent, "fetched, but it may not be stored, or there is no room"
        return WarmOutcome.FETCHED, size_bytes, header.parent, ""


async def followed_to_its_end(fill: Fill) -> int:
    """Follows the fill to its end, as a client would; its body's length. Raises SpoolBroken."""
    with fill.followed():
        await fill.decided.wait()
        if fill.header is None and fill.machine.state is not FillState.COMPLETE:
            raise SpoolBroken
        if fill.head is not None:  # of a large object in slices: the slice that comes behind it is a fill of its own
            if fill.task is not None:
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([fill.task])
            return 0
        count = 0
        async for chunk in fill.spool.read(0, None):
            count += len(chunk)
        if fill.task is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.wait([fill.task])
        return count


class Pace:
    """Keeps an order below its rate: each object's bytes push the next one's start away."""

    def __init__(self, bandwidth_bps: float | None) -> None:
        self._bandwidth_bps = bandwidth_bps
        self._free_at = time.monotonic()

    async def turn(self) -> None:
        await asyncio.sleep(self._free_at - time.monotonic())

    def took(self, size_bytes: int) -> None:
        if self._bandwidth_bps is not None:
            self._free_at = max(self._free_at, time.monotonic()) + size_bytes * 8 / self._bandwidth_bps


async def stored_for_others(store: Store, key: str, purges: int, negative_ttl_s: float) -> Stored | None:
    """What this cache may give to another one that has carried out the purges up to `purges`, of a large object its head; the
    caller closes it."""
    if store.purges.sequence < purges:
        WARM_SOURCE.labels("behind").inc()
        return None
    place, metadata = await store.peek(key)
    if metadata is None or place == "nowhere" or metadata.status in (MARKER_STATUS, 206):
        WARM_SOURCE.labels("not_held").inc()
        return None
    if decide_reuse(metadata.lifetime(negative_ttl_s), metadata.age_s(time.time())) is not Reuse.FRESH:
        WARM_SOURCE.labels("stale").inc()
        return None
    stored = await store.look_up(key)
    WARM_SOURCE.labels("not_held" if stored is None else "given").inc()
    return stored


def _site_of(key: str, snapshot: Snapshot) -> Site | None:
    name = key.partition("/")[0]
    settings = snapshot.deployment.properties.get(name)
    return None if settings is None or not key[len(name) :].startswith(settings.paths) else Site(name, settings)
