"""The shield's part of the proxy: known edges only, the origin's byte server as parent."""

from __future__ import annotations

from aiohttp import web

from headwater.cacheproxy.fills.parents import Parent
from headwater.cacheproxy.roles import PROPERTY_HEADER, ClientAddress, Passage, Refused, Site, site_parents
from headwater.rules.requesttarget import Target
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.settings.deployment import nodes_of
from headwater.settings.snapshot import Snapshot

ORIGIN_TRIES = 3  # one origin: a fill that breaks waits for it to come back and goes on


class ShieldRole:
    """Mid-tier: the edges of this deployment may ask."""

    tier = "shield"

    def admit(self, request: web.BaseRequest, target: Target, snapshot: Snapshot) -> Site:
        name = request.headers.get(PROPERTY_HEADER, "")
        settings = snapshot.deployment.properties.get(name)
        if settings is None or not target.path.startswith(settings.paths):
            raise Refused(404, "property_unknown", f"{name[:40]!r} is no property with such a path; edges name one")
        return Site(name, settings)

    def authorise(
        self, request: web.BaseRequest, target: Target, site: Site, snapshot: Snapshot, client: ClientAddress, now: float
    ) -> Passage:
        node = snapshot.node_of_token(request.headers.get(NODE_HEADER, ""))
        if node is None or nodes_of(snapshot.deployment).get(node) != "edge":
            raise Refused(403, "node-unknown", "only edges of this deployment may ask a shield")
        return Passage(target.path, node)

    def parents(self, key: str, site: Site, snapshot: Snapshot) -> tuple[Parent, ...]:
        return site_parents(site, snapshot, ORIGIN_TRIES)
