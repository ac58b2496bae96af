"""What makes the one proxy an edge or a shield: who may ask, and who is asked."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from aiohttp import web

from headwater.cacheproxy.fills.parents import Parent
from headwater.rules.requesttarget import Target
from headwater.settings.listening import Tls
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Property

if TYPE_CHECKING:
    from headwater.cacheproxy.exchange import Exchange

# Names the property on the way from tier to tier, where the viewer's host name no longer tells it.
PROPERTY_HEADER: Final = "Headwater-Property"

ORIGIN_PARENT: Final = "origin"  # the value of a property's `parent` that names our own byte server

ClientAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """The request is not served. `reason` is the word in the body, the log and the metric."""

    def __init__(self, status: int, reason: str, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Passage:
    """A request that may pass: the path that names the object, and who asks (for the log)."""

    path: str
    asker: str | None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """What a node says itself, about no object: never stored."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Site:
    """A property under its name."""

    name: str
    settings: Property


@dataclass(frozen=True, slots=True)
class Permit:
    """What `admit` and `authorise` would say of a client's requests to one host, as long as the snapshot is the same.

    It covers the target `start`; where that ends with a slash, all targets below it too. `path_at` is where in them the path
    of the object begins. It holds at Unix times `from_s` <= now < `until_s`.
    """

    start: str
    path_at: int
    site: Site
    asker: str | None
    session: str | None = None
    from_s: float = -math.inf
    until_s: float = math.inf


def site_parents(site: Site, snapshot: Snapshot, byte_server_tries: int) -> tuple[Parent, ...]:
    """Those who have the property's originals: the origin's byte server, or the ordinary site itself (asked once: an
    upstream that is not ours must not see a request twice)."""
    if site.settings.parent == ORIGIN_PARENT:
        settings = snapshot.deployment.origin.bytes
        return (Parent("origin-bytes", settings.listen.url, secure_url=secure_url(settings.tls)),) * byte_server_tries
    return (Parent("upstream", site.settings.parent.rstrip("/"), ours=False),)


def secure_url(tls: Tls | None) -> str | None:
    """Where a tier listens with TLS."""
    return None if tls is None else f"https://{tls.listen}"


@runtime_checkable
class SpeakingRole(Protocol):
    """A role that answers some requests itself, once they were admitted and authorised."""

    def own_answer(self, exchange: Exchange) -> OwnAnswer | None:
        """The answer, or None when an object is asked for."""


class Role(Protocol):
    """`tier` names the role in logs. The methods raise Refused."""

    tier: str

    def admit(self, request: web.BaseRequest, target: Target, snapshot: Snapshot) -> Site:
        """The property that the request is for."""

    def authorise(
        self, request: web.BaseRequest, target: Target, site: Site, snapshot: Snapshot, client: ClientAddress, now: float
    ) -> Passage:
        """Whether the asker may have it."""

    def parents(self, key: str, site: Site, snapshot: Snapshot) -> tuple[Parent, ...]:
        """Whom to ask for the object, in order; a parent named twice is asked twice."""
