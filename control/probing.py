"""Asks nodes over HTTP: are you healthy, what have you counted. Every failure becomes a sentence."""

from __future__ import annotations

import asyncio
import os
import time

import aiohttp

from control.metrics import CHECK_SECONDS, CHECKS
from headwater.rules.addresses import Address

MAX_REASON_CHARS = 200
MAX_METRICS_BYTES = 4 * 2**20


async def check_health(session: aiohttp.ClientSession, node: str, admin: Address, timeout_s: float) -> str | None:
    """Why the node at `admin` is not healthy, or None when it says that it is."""
    started = time.perf_counter()
    error = await _health_error(session, admin, timeout_s)
    CHECK_SECONDS.observe(time.perf_counter() - started)
    CHECKS.labels(node, "bad" if error else "good").inc()
    return error


async def _health_error(session: aiohttp.ClientSession, admin: Address, timeout_s: float) -> str | None:
    try:
        async with asyncio.timeout(timeout_s), session.get(f"{admin.url}/healthz", allow_redirects=False) as answer:
            if answer.status == 200:
                return None
            return f"{admin}/healthz answers {answer.status}: {_one_line(await answer.content.read(MAX_REASON_CHARS))}"
    except TimeoutError:
        return f"{admin} did not answer within {timeout_s:g} s"
    except (aiohttp.ClientError, OSError) as error:
        return _unreachable(admin, error)


async def read_metrics(session: aiohttp.ClientSession, admin: Address, timeout_s: float) -> str | None:
    """The node's /metrics, or None: a node that cannot be read has no news, and its health check says why."""
    return await read_admin(session, admin, "/metrics", timeout_s)


async def read_admin(session: aiohttp.ClientSession, admin: Address, path: str, timeout_s: float) -> str | None:
    """What a node's admin site says at `path`, or None."""
    try:
        async with asyncio.timeout(timeout_s), session.get(f"{admin.url}{path}", allow_redirects=False) as answer:
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


def _unreachable(admin: Address, error: Exception) -> str:
    if isinstance(error, aiohttp.ClientOSError) and error.errno:
        return f"{admin}: {os.strerror(error.errno).lower()}"
    return f"{admin}: {_one_line(str(error).encode()) or type(error).__name__}"


def _one_line(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:MAX_REASON_CHARS]
