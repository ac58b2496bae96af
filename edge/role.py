"""The edge's part of the proxy: host names to properties, grants to permissions, shields as parents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from aiohttp import web
from cachetools import LRUCache

from edge.contentsteering import content_steering
from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fills.parents import Parent
from headwater.cacheproxy.metrics import GRANTS_CHECKED
from headwater.cacheproxy.roles import ClientAddress, OwnAnswer, Passage, Permit, Refused, Site, secure_url, site_parents
from headwater.rules.hostfield import covers, host_name
from headwater.rules.rendezvous import ranked
from headwater.rules.requesttarget import Target
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import PublishedKey, Snapshot
from signer.grant import (
    Algorithm,
    Grant,
    GrantRefused,
    KeyId,
    KeyState,
    Refusal,
    VerifyKey,
    check_use,
    looks_like_token,
    verify,
)

GRANT_QUERY: Final = "grant"
GRANT_COOKIE: Final = "headwater-grant"
LONGEST_PLAIN_SEGMENT: Final = 64  # a first path segment longer than this may be a grant (`looks_like_token`)
_REMEMBERED, _VERIFIED = GRANTS_CHECKED.labels("remembered"), GRANTS_CHECKED.labels("verified")
HOSTS_REMEMBERED: Final = 1024  # anybody can send any Host field


@dataclass(frozen=True, slots=True)
class _Presented:
    """A grant as the request carries it, and the path that is asked for without it."""

    token: str | None
    path: str


class EdgeRole:
    """Viewer-facing: whoever holds a grant may ask."""

    tier = "edge"

    def __init__(self, node: str, deployment: Deployment, grants_remembered: int) -> None:
        self._node = node
        own = deployment.edge(node)
        self._own_hosts = {own.listen.host, own.host or own.listen.host}  # whatever properties say, the node is known by these
        self._keys: dict[KeyId, VerifyKey] = {}
        self._keys_of: list[PublishedKey] | None = None
        self._sites: dict[str, tuple[Site, ...]] = {}
        self._sites_of: Snapshot | None = None
        # Verified once, then remembered until the keys change; expiry, path and network are checked at every use.
        self._grants: LRUCache[str, Grant] = LRUCache(grants_remembered)

    def admit(self, request: web.BaseRequest, target: Target, snapshot: Snapshot) -> Site:
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1:
            raise Refused(400, "host_missing", "exactly one Host field was expected (RFC 9112 section 3.2)")
        path = _split(target)[1]
        for site in self._sites_at(hosts[0], snapshot):
            if path.startswith(site.settings.paths):
                return site
        host = host_name(hosts[0])
        if host is None:
            raise Refused(400, "host_malformed", "the Host field is no host name or address with an optional port")
        if host in self._own_hosts or any(covers(one.hosts, host) for one in snapshot.deployment.properties.values()):
            raise Refused(404, "path_unknown", "no property of this CDN has such a path")
        raise Refused(421, "host_unknown", f"{host[:80]!r} is not served here")

    def authorise(
        self, request: web.BaseRequest, target: Target, site: Site, snapshot: Snapshot, client: ClientAddress, now: float
    ) -> Passage:
        presented = _presented(request, target)
        if not site.settings.signed:
            return Passage(presented.path, None)
        leeway_s = snapshot.deployment.signing.leeway
        try:
            if presented.token is None:
                raise GrantRefused(Refusal.MISSING, "the URL carries no grant; ask the playback API for a signed one")
            grant = self._verified(presented.token, snapshot)
            check_use(grant, presented.path, client, now, leeway_s)
        except GrantRefused as refused:
            raise Refused(403, refused.refusal, refused.detail) from refused
        return Passage(presented.path, f"key:{grant.key_id}", grant.session)

    def recall(self, target: str, host: str, snapshot: Snapshot, client: ClientAddress, now: float) -> Permit | None:
        """What `admit` and `authorise` would say, for a grant in the path that was verified before, or an unsigned site; None:
        ask them. The target is in normal form and has no query."""
        first = target[1 : target.find("/", 1)]
        grant = None
        if len(first) > LONGEST_PLAIN_SEGMENT:
            grant = self._grants.get(first) if snapshot.keys is self._keys_of else None
            if grant is None:
                return None
        path_at = 0 if grant is None else len(first) + 1
        path = target[path_at:]
        sites = self._sites_at(host, snapshot)
        site = next((site for site in sites if path.startswith(site.settings.paths)), None)
        if site is None:
            return None
        if not site.settings.signed:
            return Permit(target[:path_at] + _reach(site.settings.paths, path, site, sites), path_at, site, None)
        if grant is None:
            return None
        leeway_s = snapshot.deployment.signing.leeway
        try:
            check_use(grant, path, client, now, leeway_s)
        except GrantRefused:
            return None
        reach = _reach(max(site.settings.paths, grant.prefix, key=len), path, site, sites)
        from_s = -math.inf if grant.not_before is None else grant.not_before - leeway_s
        return Permit(
            target[:path_at] + reach, path_at, site, f"key:{grant.key_id}", grant.session, from_s, grant.expires_at + leeway_s
        )

    def _sites_at(self, host: str, snapshot: Snapshot) -> tuple[Site, ...]:
        """The sites that answer under a Host field, in order; remembered while the snapshot is the same."""
        if snapshot is not self._sites_of:
            self._sites, self._sites_of = {}, snapshot
        sites = self._sites.get(host)
        if sites is None:
            name = host_name(host)
            if name is None:
                return ()
            properties = snapshot.deployment.properties.items()
            sites = tuple(Site(key, one) for key, one in properties if name in self._own_hosts or covers(one.hosts, name))
            if len(self._sites) < HOSTS_REMEMBERED:
                self._sites[host] = sites
        return sites

    def own_answer(self, exchange: Exchange) -> OwnAnswer | None:
        return content_steering(exchange, self._node)

    def parents(self, key: str, site: Site, snapshot: Snapshot) -> tuple[Parent, ...]:
        """The shields by their claim on the key: every edge asks the same one first. Unhealthy ones come last."""
        if not site.settings.shielded:
            return site_parents(site, snapshot, 1)
        shields = snapshot.deployment.shields
        names = ranked(key.encode(), ((name, shield.weight) for name, shield in shields.items())) or sorted(shields)
        names.sort(key=lambda name: not snapshot.healthy(name))
        order = names if len(names) > 1 else names * 2
        return tuple(Parent(name, shields[name].listen.url, secure_url=secure_url(shields[name].tls)) for name in order)

    def _verified(self, token: str, snapshot: Snapshot) -> Grant:
        if snapshot.keys is not self._keys_of:
            self._grants.clear()
            self._keys = {KeyId(key.key_id): _verify_key(key) for key in snapshot.keys}
            self._keys_of = snapshot.keys
        remembered = self._grants.get(token)
        if remembered is not None:
            _REMEMBERED.inc()
            return remembered
        grant = verify(token, self._keys)
        _VERIFIED.inc()
        self._grants[token] = grant
        return grant


def _reach(prefix: str, path: str, site: Site, sites: tuple[Site, ...]) -> str:
    """`prefix`, if all paths below it are the site's as `path` is; else the path itself."""
    earlier = takewhile(lambda one: one is not site, sites)
    if not prefix.endswith("/") or any(one.settings.paths.startswith(prefix) for one in earlier):
        return path.removesuffix("/")
    return prefix


def _split(target: Target) -> tuple[str | None, str]:
    """(grant in the path form, `/{grant}/videos/...`, if it is that; path of the object)."""
    first, slash, rest = target.path[1:].partition("/")
    return (first, f"/{rest}") if slash and looks_like_token(first) else (None, target.path)


def _presented(request: web.BaseRequest, target: Target) -> _Presented:
    """Path form first, then the query, then the cookie."""
    token, path = _split(target)
    if token is not None:
        return _Presented(token, path)
    for pair in target.query.split("&"):
        name, _, value = pair.partition("=")
        if name == GRANT_QUERY:
            return _Presented(value, target.path)
    return _Presented(request.cookies.get(GRANT_COOKIE), target.path)


def _verify_key(key: PublishedKey) -> VerifyKey:
    return VerifyKey(KeyId(key.key_id), Algorithm(key.algorithm), KeyState(key.state), key.material)
