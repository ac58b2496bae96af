"""What makes the one proxy an edge or a shield: who may ask, and who is asked."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from headwater.cacheproxy.parents import Parent
from headwater.rules.requesttarget import Target
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Property

# Names the property on the way from tier to tier, where the viewer's host name no longer tells it.
PROPERTY_HEADER: Final = "Headwater-Property"

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
class Site:
    """A property under its name."""

    name: str
    settings: Property


class Role(Protocol):
    """`tier` names the role in logs. The methods raise Refused."""

    tier: str

    def admit(self, request: web.BaseRequest, target: Target, snapshot: Snapshot) -> Site:
        """The property that the request is for."""

    def authorise(
        self, request: web.BaseRequest, target: Target, site: Site, snapshot: Snapshot, client: ClientAddress, now: float
    ) -> Passage:
        """Whether the asker may have it."""

    def parents(self, key: str, snapshot: Snapshot) -> tuple[Parent, ...]:
        """Whom to ask for the object, in order; a parent named twice is asked twice."""
