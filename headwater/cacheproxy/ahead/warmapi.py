"""What a cache's admin address offers to those who fill caches ahead: orders and lists for control, objects for other caches.

Answers to control come as {"parts": […]}: a node of several workers has a part for each of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from headwater.cacheproxy.ahead.warming import CACHES, PURGES_HEADER, STORED_PATH, Warmer, stored_for_others
from headwater.cacheproxy.ahead.warmslices import give_slices
from headwater.cacheproxy.answers.sources import StoredSource
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import BodyUnreadable, Store
from headwater.cacheproxy.store.variants import MARKER_STATUS
from headwater.rules.bucketload import NO_BUCKET, bucket_of_path
from headwater.rules.fields import without
from headwater.rules.warmorder import BadOrder, order_from
from headwater.runtime.enrolment.adminsite import asker
from headwater.runtime.problems import Problem
from headwater.settings.deployment import nodes_of
from headwater.settings.snapshot import Snapshot

CONTROL: Final = "control"
_OF_THIS_HOP: Final = ("age", "content-length", "connection", "transfer-encoding")
HOT_OBJECTS: Final = 20_000  # of one worker; what is beyond them is not hot


class WarmApi:
    """Adds its routes to a node's admin site."""

    def __init__(self, warmer: Warmer, store: Store, negative_ttl_s: float, snapshot: Callable[[], Snapshot]) -> None:
        self._warmer = warmer
        self._store = store
        self._negative_ttl_s = negative_ttl_s
        self._snapshot = snapshot

    def add_to(self, app: web.Application) -> web.Application:
        app.router.add_post("/warm", self._warm)
        app.router.add_get("/holdings", self._holdings)
        app.router.add_post("/hottest", self._hottest)
        app.router.add_get(STORED_PATH + "/{key:.+}", self._stored)
        return app

    async def _warm(self, request: web.Request) -> web.Response:
        """Carries an order out and says what became of it, when it is done."""
        self._admit_control(request)
        try:
            order = order_from(await _json(request))
        except BadOrder as error:
            raise Problem(400, "warm-invalid", "Warm order invalid", str(error)) from error
        report = await self._warmer.carry_out(order)
        return web.json_response({"parts": [report.members()]})

    async def _holdings(self, request: web.Request) -> web.Response:
        """{"buckets": {"3fa": [objects, bytes]}}: the hot objects of videos by bucket."""
        self._admit_control(request)
        buckets: dict[int, list[int]] = {}
        for metadata in await self._store.hottest(HOT_OBJECTS):
            if (bucket := _bucket_of(metadata)) is not None:
                counts = buckets.setdefault(bucket, [0, 0])
                counts[0] += 1
                counts[1] += metadata.size_bytes
        named = {f"{bucket:03x}": counts for bucket, counts in buckets.items()}
        return web.json_response({"parts": [{"buckets": named}]}, headers={"Cache-Control": "no-store"})

    async def _hottest(self, request: web.Request) -> web.Response:
        """{"objects": [[key, bytes], …]} of {"buckets": ["3fa", …], "at_most": n}, hottest first; without `buckets` of all."""
        self._admit_control(request)
        asked = await _json(request)
        try:
            wanted = None if asked.get("buckets") is None else {int(bucket, 16) for bucket in asked["buckets"]}
            at_most = min(int(asked.get("at_most", HOT_OBJECTS)), HOT_OBJECTS)
        except (AttributeError, TypeError, ValueError) as error:
            raise Problem(400, "query-invalid", "Query invalid", f"expected {{buckets, at_most}}: {error!r}") from error
        found: list[list[str | int]] = []
        for metadata in await self._store.hottest(HOT_OBJECTS):
            if len(found) >= at_most:
                break
            bucket = _bucket_of(metadata)
            whole = metadata.status == 200 or metadata.is_head
            if whole and not metadata.url_key and (wanted is None or bucket in wanted):
                found.append([metadata.key, metadata.total_bytes if metadata.is_head else metadata.size_bytes])
        return web.json_response({"parts": [{"objects": found}]}, headers={"Cache-Control": "no-store"})

    async def _stored(self, request: web.Request) -> web.StreamResponse:
        """A stored object for another cache; 504 when it is not here, not fresh, or this node is behind with its purges."""
        asker = self._asker(request)
        if asker is None or nodes_of(self._snapshot().deployment).get(asker) not in CACHES:
            raise Problem(403, "node-unknown", "Node unknown", "only caches of this deployment may ask for stored objects")
        key = request.raw_path.removeprefix(f"{STORED_PATH}/")
        purges = request.headers.get(PURGES_HEADER, "")
        stored = None
        if purges.isascii() and purges.isdigit():
            stored = await stored_for_others(self._store, key, int(purges), self._negative_ttl_s)
        if stored is None:
            raise Problem(504, "not-stored", "Not stored", "no fresh copy is here that may be passed on")
        try:
            if stored.metadata.is_head:
                given = await give_slices(request, stored.metadata, self._store)
                if given is None:
                    raise Problem(504, "not-stored", "Not stored", "the slice that was asked for is not here")
                return given
            age_s = stored.metadata.age_s(time.time())
            response = web.StreamResponse(status=stored.metadata.status)
            for name, value in without(stored.metadata.fields, _OF_THIS_HOP):
                response.headers.add(name, value)
            response.headers["Age"] = str(int(age_s))
            response.content_length = stored.metadata.size_bytes
            await response.prepare(request)
            async for chunk in StoredSource(stored, age_s).read(0, None):
                await response.write(chunk)
            await response.write_eof()
        except (BodyUnreadable, ConnectionError):  # a damaged file, or an asker that has left
            if request.transport is not None:
                request.transport.abort()  # so that nobody takes it for the whole
            return web.Response(status=504)
        finally:
            stored.close()
        return response

    def _asker(self, request: web.Request) -> str | None:
        return asker(request, self._snapshot())

    def _admit_control(self, request: web.Request) -> None:
        if self._asker(request) != CONTROL:
            raise Problem(403, "node-unknown", "Node unknown", "only control may ask this; use `headwater warm`")


async def _json(request: web.Request) -> Any:
    try:
        members = json.loads(await request.read())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "body-invalid", "Body invalid", f"the body is no JSON: {error}") from error
    if not isinstance(members, dict):
        raise Problem(400, "body-invalid", "Body invalid", "a JSON object was expected")
    return members


def _bucket_of(metadata: Metadata) -> int | None:
    """The bucket of a video's object that was stored whole."""
    if metadata.status in (MARKER_STATUS, 206):
        return None
    bucket = bucket_of_path("/" + (metadata.url_key or metadata.key).partition("/")[2])
    return None if bucket == NO_BUCKET else bucket
