"""Asking over sockets until the answer is what was waited for, where no event of ours tells when it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Answer = TypeVar("Answer")
PAUSE_S = 0.05


async def ask_until_true(ask: Callable[[], Awaitable[Answer | None]], timeout_s: float = 20.0) -> Answer:
    """The first answer that is true. Fails the test when there is none within `timeout_s`."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < deadline:
        answer = await ask()
        if answer:
            return answer
        await asyncio.sleep(PAUSE_S)
    raise AssertionError(f"not within {timeout_s:g} s: {ask!r}")
