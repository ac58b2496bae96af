"""Settings of the read pipe: regions, POPs, edges, shields, properties and DNS."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import Field, field_validator

from headwater.rules.hostfield import host_name
from headwater.settings.cache import CacheSettings
from headwater.settings.dnszone import KeyRollover, RateLimit, Records
from headwater.settings.geo import Geo
from headwater.settings.limits import Limits
from headwater.settings.listening import ProxyProtocol, TierTls, Tls
from headwater.settings.model import Settings, quantity
from headwater.settings.steeringdoor import SteeringDoor
from headwater.settings.units import Address, DurationS, IpAddress, ListenAddress, Network, RateBps

NodeName: TypeAlias = str


class Node(Settings):
    """What every node that serves HTTP has."""

    listen: ListenAddress = Field(description="Where the node serves.")
    admin: ListenAddress = Field(description="Where the node answers /metrics, /healthz and its operators; keep it private.")


class Tier(Node):
    """A caching proxy's doors, and how it asks its parents."""

    tls: Tls | None = Field(None, description="TLS beside `listen`; none by default.")
    parent_tls: TierTls | None = Field(None, description="This node's side of TLS towards parents that listen with it.")
    proxy_protocol: ProxyProtocol | None = Field(
        None, description="Balancers in front, on `listen` and `tls` alike; none by default."
    )
    limits: Limits = Field(Limits(), description="What clients may cost the node.")
    congestion: str | None = Field(
        None,
        description="TCP congestion control, such as `bbr`; the kernel's default where it is not available.",
        pattern=r"^[a-z0-9_]{1,15}$",
    )
    workers: int = Field(
        1,
        description="Processes that share the node's addresses, store and budgets; about one per core. SIGHUP then restarts "
        "them one by one, without a refused request.",
        ge=1,
        le=64,
    )

    @property
    def addresses(self) -> list[Address]:
        """Where clients come in: plain, then (where there is any) over TLS."""
        return [self.listen] if self.tls is None else [self.listen, self.tls.listen]


class Edge(Tier):
    """One edge of a POP. Its address is what DNS answers."""

    weight: float = Field(100, description="Share of the POP's buckets, relative to its other edges; 0 drains it.", ge=0)
    capacity: RateBps = quantity("1 Gbit/s", description="What the edge can send.")
    host: str | None = Field(
        None,
        description="Name under which viewers reach this edge alone, such as `fra-1.cdn.example.net`, for redirects and steering "
        "manifests; its address by default. Over TLS it is needed, for certificates name hosts.",
        pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)*$",
    )
    cache: CacheSettings = Field(CacheSettings(), description="The edge's store and fills.")


class Shield(Tier):
    """A mid-tier cache. Every edge asks the same shield for the same object."""

    weight: float = Field(100, description="Share of the objects, relative to the other shields; 0 drains it.", ge=0)
    cache: CacheSettings = Field(CacheSettings(), description="The shield's store and fills.")
    # An edge speaks for all its viewers, so that a shield has no limits per client.
    limits: Limits = Field(Limits(client_connections=0, client_rate=0), description="What edges may cost the shield.")


class Pop(Settings):
    """A site with one or more edges."""

    region: str = Field(description="The region the POP belongs to.")
    weight: float = Field(100, description="Share of its region's buckets, relative to its other POPs; 0 drains it.", ge=0)
    edges: dict[NodeName, Edge] = Field(description="The POP's edges by name.", min_length=1)


class Region(Settings):
    """Viewers' networks that are served by the same POPs."""

    networks: list[Network] = Field([], description="Networks of viewers or of their resolvers; the longest match wins.")
    spill: list[str] = Field([], description="Regions to use when none of this one's POPs can serve, nearest first.")


class Steering(Settings):
    """How viewers are mapped to POPs."""

    default_region: str = Field(description="The region of viewers whose network no region lists.")
    geo: Geo | None = Field(
        None, description="A database that tells the region of networks that no region lists; none by default."
    )
    answers: int = Field(2, description="Edges named in one DNS answer, best first.", ge=1, le=8)
    fail_closed: bool = Field(
        False,
        description="Whether viewers get no answer when no undrained edge is healthy. By default checks are not believed then.",
    )
    slow_start: DurationS = quantity(
        "30 s", description="A node that comes back reaches its whole weight after this long; 0 s: at once.", ge=0, le=86400
    )
    load_bound: float = Field(
        1.25,
        description="A POP or edge that carries more than this many times its fair share passes its hottest buckets on to the "
        "next in rank.",
        ge=1,
        le=100,
    )
    load_floor: float = Field(
        0.7, description="Below this part of its capacity a POP or edge never passes anything on.", gt=0, le=1
    )


class Dns(Settings):
    """The authoritative DNS server."""

    listen: ListenAddress = Field(description="UDP and TCP address.")
    admin: ListenAddress = Field(description="Where the server answers /metrics and /healthz.")
    http: SteeringDoor | None = Field(
        None, description="The node's HTTP door (redirects, Content Steering, DNS over HTTPS); none by default."
    )
    ttl: DurationS = quantity("20 s", description="TTL of steered answers; viewers stay this long.", ge=0, le=86400)
    nameservers: list[str] = Field(["ns1"], description="Names of the zone's name servers, relative to the zone.", min_length=1)
    hostmaster: str = Field("hostmaster", description="Mailbox of the zone in its SOA, relative to the zone.")
    addresses: dict[str, list[IpAddress]] = Field(
        {},
        description="Addresses of the name servers as resolvers reach them, by name in `nameservers`; `listen` by default, which "
        "is none where the server listens on all addresses.",
    )
    negative_ttl: DurationS | None = Field(
        None, description="How long resolvers may keep that a name or type does not exist; `ttl` by default."
    )
    records: Records = Field(
        {},
        description="Further records by name relative to the zone (`@` is the zone), then by type: "
        '`{"@": {CAA: \'0 issue "letsencrypt.org"\'}}`.',
    )
    record_ttl: DurationS = quantity("300 s", description="TTL of `records`.", ge=0, le=86400)
    dnssec: bool = Field(
        False,
        description="Whether answers are signed (DNSSEC, ECDSA P-256). `headwater dns ds` prints the record for the parent zone.",
    )
    rollover: KeyRollover = Field(KeyRollover(), description="How the keys of a signed zone are replaced.")
    require_cookies: bool = Field(
        False,
        description="Whether UDP clients that speak DNS cookies must show a valid one (RFC 7873): BADCOOKIE, or TCP, for others.",
    )
    rate_limit: RateLimit = Field(RateLimit(), description="Limits on answers over UDP that may be somebody else's burden.")


class Property(Settings):
    """One site served by the CDN."""

    hosts: list[str] = Field(
        description="Host names served; `*.cdn.test` covers one label. The node's own addresses are always served.",
        min_length=1,
    )
    paths: str = Field("/", description="Path prefix that belongs to the property.", pattern=r"^/")
    signed: bool = Field(True, description="Whether edges ask for a grant.")
    parent: str = Field(
        "origin",
        description="Where the property is filled from: `origin`, or the base URL of any HTTP site.",
        pattern=r"^(origin|https?://[^/]+)$",
    )
    shielded: bool = Field(True, description="Whether edges fill from the shields; without it they ask the parent themselves.")
    cors: bool = Field(True, description="Whether players of other sites may read responses (Access-Control-Allow-Origin: *).")

    @field_validator("hosts")
    @classmethod
    def _are_host_names(cls, hosts: list[str]) -> list[str]:
        """In lower case, as the hosts of requests are."""
        for host in hosts:
            name = host.lower().removeprefix("*.")
            if name not in (host_name(name), host_name(f"[{name}]")) or "*" in name:
                raise ValueError(f"{host!r} is no host name; one without scheme, port and path was expected, or '*.' and one")
        return [host.lower() for host in hosts]

    @field_validator("parent")
    @classmethod
    def _is_a_site(cls, parent: str) -> str:
        authority = parent.partition("://")[2]
        if authority and host_name(authority) is None:
            raise ValueError(f"{authority!r} is no host with an optional port, such as '192.0.2.1:8080'")
        return parent
