"""Asking many nodes the same thing, one a moment after another.

All at once costs no less, but whoever else needs this process then waits behind all of them: thirty health checks are tens of
milliseconds, for which an order that is under way would stand still, once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

GAP_S: Final = 0.01

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


async def spread_out(
    ask: Callable[[Asked], Awaitable[Answer]], whom: Sequence[Asked], *, within_s: float, gap_s: float = GAP_S
) -> list[Answer]:
    """The answers, in the order of `whom`. The questions begin `gap_s` apart, the last one `within_s` seconds after the first at
    most; none waits for another's answer."""
    gap_s = min(gap_s, within_s / max(1, len(whom)))

    async def in_turn(place: int, asked: Asked) -> Answer:
        await asyncio.sleep(place * gap_s)
        return await ask(asked)

    return await asyncio.gather(*(in_turn(place, asked) for place, asked in enumerate(whom)))
