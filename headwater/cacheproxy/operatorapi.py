"""What control may ask a caching node on its admin listener, with control's own certificate or token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from headwater.cacheproxy.store.purges import Purges
from headwater.runtime.enrolment.adminsite import asker
from headwater.runtime.httpsite import problems
from headwater.runtime.logs import Log
from headwater.runtime.problems import Problem
from headwater.runtime.purgelines import record_from
from headwater.settings.snapshot import Snapshot

CONTROL = "control"
Explain = Callable[[str], Awaitable[dict[str, Any]]]


class OperatorApi:
    """Adds its routes to a node's admin site."""

    def __init__(self, purges: Purges, snapshot: Callable[[], Snapshot], explain: Explain, log: Log) -> None:
        self._purges = purges
        self._snapshot = snapshot
        self._explain_key = explain
        self._log = log

    def add_to(self, app: web.Application) -> web.Application:
        app.middlewares.append(problems)
        app.router.add_post("/purge", self._purge)
        app.router.add_get("/explain", self._explain)
        return app

    async def _purge(self, request: web.Request) -> web.Response:
        """Carries out `records`, which come after the record `after`. What is answered with 200 can no longer be served."""
        self._admit(request)
        try:
            members = await request.json()
            records = [record_from(one) for one in members["records"]]
            after = int(members["after"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise Problem(400, "purge-invalid", "Purge invalid", f"expected {{after, records}}: {error!r}") from error
        held = self._purges.kept
        if after > held:
            detail = f"this node has carried out the purges up to {held}; send those in between too"
            raise Problem(409, "purges-missing", "Purges missing", detail, sequence=held)
        try:
            sequence = await asyncio.to_thread(self._purges.take, records)
        except OSError as error:
            self._log.error("a purge could not be written; it holds until this node ends", error=str(error))
            detail = f"the purge holds until this node ends, but its folder did not take it ({error}); free the disk and repeat"
            raise Problem(507, "purge-not-kept", "Purge not kept", detail) from error
        return web.json_response({"acknowledged": True, "sequence": sequence})

    async def _explain(self, request: web.Request) -> web.Response:
        """What this node holds of the object `key`, and whom it would ask."""
        self._admit(request)
        key = request.query.get("key", "")
        if "/" not in key:
            raise Problem(
                400, "key-invalid", "Key invalid", "key: a property's name and a path were expected, as in video/videos/…"
            )
        return web.json_response(await self._explain_key(key), headers={"Cache-Control": "no-store"})

    def _admit(self, request: web.Request) -> None:
        if asker(request, self._snapshot()) != CONTROL:
            raise Problem(
                403, "node-unknown", "Node unknown", "only control may ask this; use `headwater purge` or `headwater explain`"
            )
