"""This process's bytes by bucket: both lanes count here, `/load` on the admin address says it."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web

from headwater.cacheproxy.exchange import Exchange
from headwater.rules.bucketload import BucketLoad, bucket_of_path
from headwater.rules.cachestatus import Outcome

LOAD: Final = BucketLoad(since=time.time())


def count_bytes(exchange: Exchange) -> None:
    """Counts an answer of the ordinary lane."""
    if exchange.sent_bytes and exchange.passage is not None:
        LOAD.count(bucket_of_path(exchange.passage.path), exchange.sent_bytes, filled=exchange.outcome is Outcome.MISS)


def add_load_report(app: web.Application) -> web.Application:
    async def load(request: web.Request) -> web.Response:
        return web.json_response(LOAD.members(), headers={"Cache-Control": "no-store"})

    app.router.add_get("/load", load)
    return app
