"""The edge node: the caching proxy in the edge's role, on its viewer-facing address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge.role import EdgeRole
from headwater.cacheproxy.node import proxy_node
from headwater.runtime.node import NodeContext


@asynccontextmanager
async def edge_node(context: NodeContext) -> AsyncIterator[None]:
    settings = context.deployment.edge(context.name)
    role = EdgeRole(context.name, context.deployment, settings.cache.grants_remembered)
    async with proxy_node(context, role, settings, settings.cache):
        yield
