"""Asks a node's /healthz. Every failure of it becomes a sentence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import aiohttp

from headwater.rules.addresses import Address
from headwater.runtime.shortage import is_own_shortage

MAX_REASON_CHARS = 200
NOTHING: Mapping[str, str] = {}
ASKER_HEADER = "Headwater-Vantage"  # says who checks, for logs and for whoever filters between them


class CannotLook(Exception):
    """Whoever checks had no file or port left to ask with: this says nothing of the node."""


async def health_error(
    session: aiohttp.ClientSession, admin: Address, timeout_s: float, asker: str, fields: Mapping[str, str] = NOTHING
) -> str | None:
    """Why the node at `admin` is not healthy, or None when it says that it is. `fields` go with the question.

    Raises CannotLook.
    """
    asked = session.get(f"{admin.url}/healthz", allow_redirects=False, headers={ASKER_HEADER: asker, **fields})
    try:
        async with asyncio.timeout(timeout_s), asked as answer:
            if answer.status == 200:
                return None
            return f"{admin}/healthz answers {answer.status}: {_one_line(await answer.content.read(MAX_REASON_CHARS))}"
    except TimeoutError:
        return f"{admin} did not answer within {timeout_s:g} s"
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, OSError) and is_own_shortage(error):
            raise CannotLook(_unreachable(admin, error)) from error
        return _unreachable(admin, error)


def _unreachable(admin: Address, error: Exception) -> str:
    if isinstance(error, aiohttp.ClientOSError) and error.errno:
        return f"{admin}: {os.strerror(error.errno).lower()}"
    return f"{admin}: {_one_line(str(error).encode()) or type(error).__name__}"


def _one_line(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:MAX_REASON_CHARS]
