"""No peer but a measure: the least that an aiohttp handler can do. It parses the request and answers ready-made bytes.

python -m bench.speed.peers.floor_aiohttp PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import uvloop
from aiohttp import web

from bench.speed.servers import Server, Site, free_port, running, wait_until_serving
from bench.speed.upstream import body_of

NAME = "Floor, aiohttp"
_body = lru_cache(body_of)


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=_body(request.raw_path))


async def serve(port: int) -> None:
    await asyncio.get_running_loop().create_server(web.Server(answer, access_log=None), "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


@contextmanager
def server(site: Site, names: dict[str, str]) -> Iterator[Server | None]:
    port, root = free_port(), Path(__file__).resolve().parents[3]
    command = [sys.executable, "-m", "bench.speed.peers.floor_aiohttp", str(port)]
    with running(command, site.folder, PYTHONPATH=str(root)) as pid:
        wait_until_serving(("127.0.0.1", port))
        yield Server(NAME, "the least that an aiohttp handler can do", pid, ("127.0.0.1", port), None, names)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
