"""Every node follows control's snapshots: last good one from disk at start, then a long poll; readers see one immutable view.

Control away means: serve on with what is there. A snapshot older than the one held is refused.

A network that swallows a long poll tells nobody, and TCP notices long after the network is whole again. But control checks each
node's health all the while, and each check says which version there is: a node that hears of a later one asks anew (`hearing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
from aiohttp import web
from pydantic import ValidationError

from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.enrolment.links import control_client
from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter, gauge
from headwater.runtime.wholefiles import replace_whole
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot

LONG_POLL_S = 25.0
RETRY_S = 0.5
VERSION_HEADER = "Headwater-Snapshot"
ON_ITS_WAY_S = 0.25  # a version that is heard of is usually on its way in the answer to the poll

SNAPSHOT_VERSION = gauge("headwater_snapshot_version", "Version of the snapshot that this node serves by.")
SNAPSHOT_POLLS = counter("headwater_snapshot_polls_total", "Questions to control for a newer snapshot, by outcome.", ["outcome"])


class SnapshotFollower:
    """Holds the current snapshot in `current`, replaced in one assignment."""

    def __init__(
        self,
        deployment: Deployment,
        node: str,
        token: str,
        folder: Path,
        log: Log,
        *,
        keeps: bool = True,
        identity: Identity | None = None,
    ) -> None:
        self.client = partial(control_client, identity, deployment, token)
        self._node = node
        self._deployment = deployment.name
        self._refusal = ""
        self._file = folder / "snapshot.json"
        self._log = log
        self._keeps = keeps
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._answered = asyncio.Event()
        self._heard = asyncio.Event()
        self.current = self._last_good() or Snapshot(version=0, deployment=deployment)
        SNAPSHOT_VERSION.set(self.current.version)

    def hearing(self, app: web.Application) -> web.Application:
        """Adds to a node's admin site that it hears the version which control says in its checks."""

        @web.middleware
        async def hear(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            version = request.headers.get(VERSION_HEADER, "")
            if version.isascii() and version.isdigit() and int(version[:18]) > self.current.version:
                self._heard.set()
            return await handler(request)

        app.middlewares.append(hear)
        return app

    def on_change(self, listener: Callable[[Snapshot], None]) -> None:
        """`listener` is called with each new snapshot, after it became current."""
        self._listeners.append(listener)

    async def first_answer(self, timeout_s: float) -> None:
        """Waits until control answered once, at most `timeout_s`: a fresh node has no keys before."""
        try:
            await asyncio.wait_for(self._answered.wait(), timeout_s)
        except TimeoutError:
            self._log.warning("control does not answer; serving by the last snapshot", version=self.current.version)

    async def follow(self) -> None:
        """Asks for newer snapshots for ever."""
        timeout = httpx.Timeout(5.0, read=LONG_POLL_S + 5.0)
        async with self.client(timeout) as client:
            while True:
                if not await self._ask(client):
                    await asyncio.sleep(RETRY_S)

    async def _ask(self, client: httpx.AsyncClient) -> bool:
        # `node` is for control's logs; the token decides. `wait` 0 at first: a node that starts wants to know at once.
        wait_s = LONG_POLL_S if self._answered.is_set() else 0
        query = {"after": str(self.current.version), "wait": str(wait_s), "node": self._node}
        try:
            answer = await self._answer(client, query)
            if answer is None:
                SNAPSHOT_POLLS.labels("lost").inc()
                return True
            if answer.status_code == 204:
                SNAPSHOT_POLLS.labels("unchanged").inc()
                self._refusal = ""
                self._answered.set()
                return True
            self._told_of(answer)
            answer.raise_for_status()
            snapshot = Snapshot.model_validate_json(answer.content)
        except httpx.HTTPError as error:
            SNAPSHOT_POLLS.labels("failed").inc()
            self._log.debug("no snapshot from control", error=repr(error))
            return False
        except ValidationError as error:
            SNAPSHOT_POLLS.labels("refused_unreadable").inc()
            self._tell_once("control's snapshot cannot be read, so this node serves on by its last one; if control is newer than "
                            "this node, upgrade the node", problems=_places(error))  # fmt: skip
            return False
        if snapshot.deployment.name != self._deployment:
            SNAPSHOT_POLLS.labels("refused_wrong").inc()
            self._log.error("control sent a snapshot of another deployment", of=snapshot.deployment.name, ours=self._deployment)
            return False
        if snapshot.version <= self.current.version:
            SNAPSHOT_POLLS.labels("refused_older").inc()
            self._log.warning("control sent an older snapshot", version=snapshot.version, held=self.current.version)
            return False
        SNAPSHOT_POLLS.labels("newer").inc()
        self._refusal = ""
        if self._keeps:
            await asyncio.to_thread(self._keep_or_tell, snapshot)
        self.current = snapshot
        SNAPSHOT_VERSION.set(snapshot.version)
        self._answered.set()
        for listener in self._listeners:
            listener(snapshot)
        return True

    async def _answer(self, client: httpx.AsyncClient, query: dict[str, str]) -> httpx.Response | None:
        """Control's answer; None when a later version was heard of and the answer did not come: the network has lost it."""
        self._heard.clear()
        asking = asyncio.create_task(client.get("/api/v1/snapshot", params=query))
        hearing = asyncio.create_task(self._heard.wait())
        try:
            await asyncio.wait((asking, hearing), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                await asyncio.wait((asking,), timeout=ON_ITS_WAY_S)
            return asking.result() if asking.done() else None
        finally:
            asking.cancel()
            hearing.cancel()
            await asyncio.gather(asking, hearing, return_exceptions=True)

    def _told_of(self, answer: httpx.Response) -> None:
        """Control's reason for giving this node nothing, once in the log: operators look for it there."""
        if answer.status_code == 403:
            self._tell_once("control refuses this node; it serves on by its last snapshot", answer=answer.text[:500])

    def _tell_once(self, what: str, **details: str) -> None:
        """Into the log, until something else is wrong, or nothing is."""
        said = f"{what} {details}"
        if said != self._refusal:
            self._log.error(what, **details)
        self._refusal = said

    def _last_good(self) -> Snapshot | None:
        try:
            return Snapshot.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            self._log.warning("the kept snapshot cannot be read; starting from the config file", error=str(error))
            return None

    def _keep_or_tell(self, snapshot: Snapshot) -> None:
        """A full disk costs what a start without control would begin with, not the news."""
        try:
            replace_whole(self._file, snapshot.model_dump_json().encode())
        except OSError as error:
            self._log.error("the snapshot cannot be kept on disk; this node lives by it until it ends", error=str(error))


def _places(error: ValidationError) -> str:
    """Where the first of what is wrong is, without the values."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)[:5])
