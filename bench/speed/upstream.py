"""The site behind every cache of the bench: `/…/{n}k` is a body of n KiB, the same bytes each time, fresh for an hour.

To our nodes it is control as well, one that never has news: without any they would ask ten times a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time

import uvloop
from aiohttp import web

_SEED = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * 128  # 1 MiB that does not compress


def body_of(path: str) -> bytes:
    """The body for a path whose last segment is `{n}k` with or without more behind a dash."""
    kib = int(path.rsplit("/", 1)[-1].partition("k")[0])
    return (_SEED * (kib // 1024 + 1))[: kib * 1024]


_RELEASED: dict[str, asyncio.Future[None]] = {}


async def _hold(request: web.BaseRequest, name: str, *, header_first: bool) -> web.StreamResponse:
    """The header at once or with what follows it, half of the body when `/release/NAME` is asked, the rest a second later."""
    released = _RELEASED[name] = asyncio.get_running_loop().create_future()
    response = web.StreamResponse(headers={"Cache-Control": "max-age=3600"})
    response.content_length = 2000
    if not header_first:
        await released
    await response.prepare(request)
    await released
    await response.write(bytes(1000))
    await asyncio.sleep(1)
    await response.write(bytes(1000))
    return response


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    if request.path == "/api/v1/snapshot":
        await asyncio.sleep(float(request.query["wait"]))
        return web.Response(status=204)
    if request.path == "/api/v1/purges":
        return web.json_response({"records": []})
    _, first, last = f"{request.path}/".split("/", 2)
    if first in ("held", "withheld"):
        return await _hold(request, last, header_first=first == "held")
    if first == "release":
        _RELEASED.pop(last).set_result(None)
        return web.Response(text=f"{time.monotonic():.6f}")
    headers = {"Cache-Control": "public, max-age=3600", "ETag": '"1"', "Content-Type": "video/mp4"}
    return web.Response(body=body_of(request.path), headers=headers)


async def serve(port: int) -> None:
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
