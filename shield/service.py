"""The shield node: the caching proxy in the shield's role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headwater.cacheproxy.node import proxy_node
from headwater.runtime.node import NodeContext
from shield.role import ShieldRole


@asynccontextmanager
async def shield_node(context: NodeContext) -> AsyncIterator[None]:
    settings = context.deployment.shields[context.name]
    async with proxy_node(context, ShieldRole(), settings, settings.cache):
        yield
