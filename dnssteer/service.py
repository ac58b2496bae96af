"""The DNS node: authoritative for the deployment's zone, steering logical hosts by the snapshot it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from dnssteer.contentsteering import ContentSteering
from dnssteer.door import Routes, serve_door
from dnssteer.keykeeper import KeyKeeper, timing_of
from dnssteer.keyroll import Timing
from dnssteer.metrics import GEO_BUILT
from dnssteer.overhttps import DnsOverHttps
from dnssteer.redirects import Redirects
from dnssteer.responder import Responder
from dnssteer.secretfile import cookie_secrets
from dnssteer.signing import OnlineSigning
from dnssteer.sockets import serve_dns
from dnssteer.zonekeys import ZoneKeys, key_folder
from headwater.runtime.enrolment.adminsite import serve_admin
from headwater.runtime.forcontrol import for_control
from headwater.runtime.httpsite import CannotStart, admin_app
from headwater.runtime.node import NodeContext, following_snapshots
from headwater.runtime.tasks import Supervised
from headwater.runtime.vantage import Vantage
from headwater.settings.geo import UnreadableDatabase, open_regions


@asynccontextmanager
async def dns_node(context: NodeContext) -> AsyncIterator[None]:
    """Serves until the context ends. Control away means: the last snapshot goes on being answered."""
    settings, geo = context.deployment.dns, context.deployment.steering.geo
    if geo is not None:
        try:
            GEO_BUILT.set(open_regions(geo).built_at)
        except UnreadableDatabase as error:
            raise CannotStart(str(error)) from error
    async with following_snapshots(context) as follower:
        secrets = cookie_secrets(context.deployment.data / "dns" / "cookie-secrets")
        keys = ZoneKeys(key_folder(context.deployment), context.deployment.zone) if settings.dnssec else None
        signing = OnlineSigning(keys.current, round(settings.rollover.key_ttl)) if keys is not None else None
        responder = Responder(follower.current, context.log, secrets=secrets, signing=signing)
        follower.on_change(responder.use)
        outputs: list[Routes] = [
            Redirects(lambda: follower.current),
            ContentSteering(lambda: follower.current),
            DnsOverHttps(partial(responder.reply, over_tcp=True), lambda: follower.current),
        ]
        door = serve_door(settings.http, outputs, context.log)
        vantage = Vantage(context.name, lambda: follower.current)
        app = vantage.add_to(for_control(admin_app(), follower))
        admin = serve_admin(app, settings.admin, context.identity, lambda: follower.current)
        async with admin, serve_dns(responder, settings.listen), door, Supervised(context.log) as tasks:
            tasks.start("watch-peers", vantage.watch)
            if keys is not None:
                tasks.start("keep-zone-keys", _keeper(context, keys, responder).keep)
            yield


def _keeper(context: NodeContext, keys: ZoneKeys, responder: Responder) -> KeyKeeper:
    deployment = context.deployment
    rollover = deployment.dns.rollover

    def timing() -> Timing:
        return timing_of(responder.snapshot.deployment.dns, rollover)

    return KeyKeeper(keys, deployment.zone, timing, rollover.parent_servers, responder.use_keys, context.log)
