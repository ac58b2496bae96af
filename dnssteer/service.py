"""The DNS node: authoritative for the deployment's zone, steering logical hosts by the snapshot it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dnssteer.door import serve_door
from dnssteer.redirects import Redirects
from dnssteer.responder import Responder
from dnssteer.secretfile import cookie_secrets
from dnssteer.sockets import serve_dns
from headwater.runtime.httpsite import admin_app, serve_app
from headwater.runtime.node import NodeContext, following_snapshots


@asynccontextmanager
async def dns_node(context: NodeContext) -> AsyncIterator[None]:
    """Serves until the context ends. Control away means: the last snapshot goes on being answered."""
    settings = context.deployment.dns
    async with following_snapshots(context) as follower:
        secrets = cookie_secrets(context.deployment.data / "dns" / "cookie-secrets")
        responder = Responder(follower.current, context.log, secrets=secrets)
        follower.on_change(responder.use)
        door = serve_door(settings.http, [Redirects(lambda: follower.current)], context.log)
        async with serve_app(admin_app(), settings.admin), serve_dns(responder, settings.listen), door:
            yield
