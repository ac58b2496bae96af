"""A node as a vantage point: it checks its peers and says at `/vantage` what it sees, so that control's own link to a POP is not
the only thing that can take the POP out.

    {"seen": {"fra-1": {"error": null, "age_s": 0.4}, ...}}

Beside the checks it tells of troubles that real requests had (`troubles`), which outweigh a good check of the same peer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from headwater.runtime.healthcheck import CannotLook, health_error
from headwater.runtime.spread import spread_out
from headwater.settings.deployment import admin_address
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import NodeName
from headwater.settings.vantages import peers_of


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen last; `at` is monotonic seconds."""

    error: str | None
    at: float


def no_troubles() -> Mapping[str, str]:
    return {}


class Vantage:
    """`snapshot` gives the current one; `troubles` names peers that real requests did not reach of late, with the reason."""

    def __init__(
        self, node: str, snapshot: Callable[[], Snapshot], troubles: Callable[[], Mapping[str, str]] = no_troubles
    ) -> None:
        self._node = node
        self._snapshot = snapshot
        self._troubles = troubles
        self._seen: dict[str, Sight] = {}

    def add_to(self, app: web.Application) -> web.Application:
        app.router.add_get("/vantage", self._report)
        return app

    async def watch(self) -> None:
        """Checks all peers, each interval, for ever."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
            while True:
                began = time.monotonic()
                control = self._snapshot().deployment.control
                await self._look(session, control.probe_timeout)
                await asyncio.sleep(max(0.0, control.probe_interval - (time.monotonic() - began)))

    async def _look(self, session: aiohttp.ClientSession, timeout_s: float) -> None:
        deployment = self._snapshot().deployment
        peers = peers_of(deployment, self._node)

        async def sight(peer: NodeName) -> Sight | None:
            try:
                error = await health_error(session, admin_address(deployment, peer), timeout_s, self._node)
            except CannotLook:
                return self._seen.get(peer)  # which grows old
            return Sight(error, time.monotonic())

        within_s = deployment.control.probe_interval / 2
        sights = zip(peers, await spread_out(sight, peers, within_s=within_s), strict=True)
        self._seen = {peer: one for peer, one in sights if one is not None}

    async def _report(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        seen = {peer: {"error": sight.error, "age_s": round(now - sight.at, 3)} for peer, sight in self._seen.items()}
        for peer, trouble in self._troubles().items():
            seen[peer] = {"error": trouble, "age_s": 0.0}
        return web.json_response({"seen": seen}, headers={"Cache-Control": "no-store"})
