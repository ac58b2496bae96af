"""How a node learns of the purges that it missed: it asks control before it serves, and whenever a snapshot is ahead of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

from headwater.cacheproxy.metrics import PURGE_REPLAYS
from headwater.cacheproxy.store.purges import Purges
from headwater.runtime.logs import Log
from headwater.runtime.node import NodeContext
from headwater.runtime.purgelines import record_from
from headwater.runtime.snapshots import SnapshotFollower
from headwater.runtime.tasks import Supervised
from headwater.settings.snapshot import Snapshot

BEFORE_SERVING_S = 1.5
ASK_TIMEOUT_S = 5.0
RETRY_S = 0.5


class PurgeFollower:
    """`follow` runs for ever. A node that control does not answer serves on with what it knows: see docs/purging.md."""

    def __init__(self, client: Callable[[httpx.Timeout], httpx.AsyncClient], purges: Purges, log: Log) -> None:
        self._client = client
        self._purges = purges
        self._log = log
        self._wanted = 0
        self._behind = asyncio.Event()
        self._behind.set()  # what was missed before the start is not known yet
        self._asked = asyncio.Event()

    def learn(self, snapshot: Snapshot) -> None:
        """A snapshot came: is control ahead?"""
        self._wanted = max(self._wanted, snapshot.purge_sequence)
        if self._wanted > self._purges.kept:
            self._behind.set()

    async def first_answer(self, timeout_s: float = BEFORE_SERVING_S) -> None:
        """Waits until all that was missed is carried out, at most `timeout_s`."""
        try:
            await asyncio.wait_for(self._asked.wait(), timeout_s)
        except TimeoutError:
            self._log.warning("control does not tell what was purged meanwhile; serving on", sequence=self._purges.sequence)

    async def follow(self) -> None:
        async with self._client(httpx.Timeout(ASK_TIMEOUT_S)) as client:
            while True:
                await self._behind.wait()
                if await self._catch_up(client):
                    self._behind.clear()
                    self._asked.set()
                    if self._wanted > self._purges.kept:  # control lost its log; what it purges next will be later
                        self._log.warning("control knows fewer purges than its snapshot says", wanted=self._wanted)
                else:
                    await asyncio.sleep(RETRY_S)

    async def _catch_up(self, client: httpx.AsyncClient) -> bool:
        """Until control has nothing newer: its last answer also tells it how far this node is."""
        try:
            while True:
                answer = await client.get("/api/v1/purges", params={"after": str(self._purges.kept)})
                answer.raise_for_status()
                records = [record_from(members) for members in answer.json()["records"]]
                if not records:
                    PURGE_REPLAYS.labels("answered").inc()
                    return True
                await asyncio.to_thread(self._purges.take, records)
                self._log.info("purges replayed", count=len(records), sequence=self._purges.sequence)
        except (httpx.HTTPError, json.JSONDecodeError, KeyError, TypeError, ValueError, OSError) as error:
            PURGE_REPLAYS.labels("failed").inc()
            self._log.debug("no purges from control", error=repr(error))
            return False


@asynccontextmanager
async def following_purges(context: NodeContext, purges: Purges, snapshots: SnapshotFollower) -> AsyncIterator[None]:
    """On enter the node has replayed what it missed, or control did not answer for long enough."""
    follower = PurgeFollower(snapshots.client, purges, context.log)
    snapshots.on_change(follower.learn)
    follower.learn(snapshots.current)
    async with Supervised(context.log) as tasks:
        tasks.start("follow-purges", follower.follow)
        await follower.first_answer()
        yield
