"""The logs of nodes of other machines, read at their admin address: a piece at a time, as fast as the follower takes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp

from control.operators.following import Filter, told_of
from headwater.runtime.enrolment.links import Site
from headwater.runtime.nodetoken import NODE_HEADER

TIMEOUT_S: Final = 3.0
LOOK_S: Final = 0.5
AGAIN_S: Final = 2.0

Tell = Callable[[list[dict[str, Any]]], Awaitable[None]]


class RemoteTail:
    """One log of one node. `last` is how many lines that are there already come first."""

    def __init__(self, node: str, log: str, admin: Site, last: int) -> None:
        self.node = node
        self.log = log
        self._admin = admin
        self._last: int | None = last
        self._cursors: dict[str, dict[str, float]] = {}
        self._reached = True

    async def follow(self, session: aiohttp.ClientSession, wanted: Filter, tell: Tell) -> None:
        """For ever. `tell` returns when the follower has taken what it was told; that the node is out of reach is told, once."""
        while True:
            try:
                found = await self._read(session, wanted)
                self._reached = True
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                if self._reached:
                    why = f"no answer within {TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else str(error)
                    await tell([{"unreached": self.node, "log": self.log, "why": why or type(error).__name__}])
                self._reached = False
                await asyncio.sleep(AGAIN_S)
                continue
            if found:
                await tell(found)
            await asyncio.sleep(LOOK_S)

    async def _read(self, session: aiohttp.ClientSession, wanted: Filter) -> list[dict[str, Any]]:
        asked = {"log": self.log, "cursors": self._cursors}
        url, timeout = f"{self._admin.url}/log", aiohttp.ClientTimeout(TIMEOUT_S)
        async with session.post(url, json=asked, timeout=timeout, allow_redirects=False, **self._admin.tls) as answer:
            if answer.status != 200:
                raise ValueError(f"it answers {answer.status}; a node of an older release keeps no lines for control")
            parts = json.loads(await answer.read())["parts"]
        found: list[dict[str, Any]] = []
        for part in parts:
            self._cursors[str(part["worker"])] = {"since": float(part["since"]), "next": int(part["next"])}
            if part["lost"]:
                found.append({"lost": int(part["lost"]), "of": self.node, "log": self.log})
            found += told_of(self.node, self.log, part["lines"].encode().splitlines(), wanted)
        if self._last is not None:
            found, self._last = found[-self._last :] if self._last else [], None
        return found


def session_of(token: str) -> aiohttp.ClientSession:
    """For one follower's reads of other nodes."""
    return aiohttp.ClientSession(headers={NODE_HEADER: token}, connector=aiohttp.TCPConnector(limit=0))
