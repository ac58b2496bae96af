"""Asks nodes over HTTP: are you healthy, what have you counted. Every failure becomes a sentence."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from control.metrics import CHECK_SECONDS, CHECKS
from headwater.rules.addresses import Address
from headwater.runtime.enrolment.links import Site
from headwater.runtime.healthcheck import health_error
from headwater.runtime.snapshots import VERSION_HEADER

MAX_METRICS_BYTES = 4 * 2**20


async def check_health(session: aiohttp.ClientSession, node: str, admin: Address, timeout_s: float, version: int) -> str | None:
    """Why the node at `admin` is not healthy, or None when it says that it is. It hears which snapshot there is. Raises
    CannotLook."""
    started = time.perf_counter()
    error = await health_error(session, admin, timeout_s, "control", {VERSION_HEADER: str(version)})
    CHECK_SECONDS.observe(time.perf_counter() - started)
    CHECKS.labels(node, "bad" if error else "good").inc()
    return error


async def read_metrics(session: aiohttp.ClientSession, admin: Address, timeout_s: float) -> str | None:
    """The node's /metrics, or None: a node that cannot be read has no news, and its health check says why."""
    return await read_admin(session, Site(admin.url), "/metrics", timeout_s)


async def read_admin(session: aiohttp.ClientSession, site: Site, path: str, timeout_s: float) -> str | None:
    """What a node's admin site says at `path`, or None."""
    try:
        async with asyncio.timeout(timeout_s), session.get(f"{site.url}{path}", allow_redirects=False, **site.tls) as answer:
            if answer.status != 200:
                return None
            body = b""
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MAX_METRICS_BYTES:
                    return None
            return body.decode("utf-8", "replace")
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None
