"""The zone as the server answers it: its fixed records, made once from a snapshot, and where its edges speak TLS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import dns.name
import dns.rdatatype
import dns.rrset
from dns.rdataclass import IN
from dns.rdatatype import AAAA, NS, SOA, A

from headwater.rules.addresses import Address
from headwater.rules.names import Bucket, bucket_of_host
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot

# Nobody transfers the zone, so these matter to no one, but checkers of zones want them sane (RFC 1912 section 2.2).
REFRESH_S: Final = 3600
RETRY_S: Final = 600
EXPIRE_S: Final = 604_800
INFRASTRUCTURE_TTL_S: Final = 3600

_PORT_LABEL: Final = re.compile(rb"_[0-9]{1,5}\Z")

IpAddress = IPv4Address | IPv6Address
Records = Mapping[int, dns.rrset.RRset]


@dataclass(frozen=True, slots=True)
class SecureDoor:
    """Where an edge speaks TLS, and the name of its own that leads there alone."""

    target: dns.name.Name
    address: Address


@dataclass(frozen=True, slots=True)
class LogicalName:
    """A name that is steered: a logical host, or (RFC 9460 section 9.1) a port of HTTPS below it.

    `owner` is the logical host itself; `holds_addresses` is false for the names below it, `exists_only` for those between.
    """

    bucket: Bucket
    owner: dns.name.Name
    holds_addresses: bool
    exists_only: bool = False


@dataclass(frozen=True)
class Zone:
    """`ttl_s` is that of steered answers; `answers` how many edges an answer names. `names` holds all that is not steered; a
    name without records is there because one below it has some (RFC 4592 section 2.2.2)."""

    origin: dns.name.Name
    names: Mapping[dns.name.Name, Records]
    secure: Mapping[str, SecureDoor]
    ttl_s: int
    answers: int

    @property
    def soa(self) -> dns.rrset.RRset:
        return self.names[self.origin][SOA]

    @property
    def nameservers(self) -> dns.rrset.RRset:
        return self.names[self.origin][NS]

    def logical(self, name: dns.name.Name) -> LogicalName | None:
        """What `name` is, when it is steered."""
        labels = name.labels[: len(name.labels) - len(self.origin.labels)]
        if not 1 <= len(labels) <= 3:
            return None
        bucket = bucket_of_host(labels[-1].decode("latin-1") + ".zone", "zone")
        if bucket is None:
            return None
        owner = dns.name.Name(name.labels[len(labels) - 1 :])
        match [label.lower() for label in labels[:-1]]:
            case []:
                return LogicalName(bucket, owner, holds_addresses=True)
            case [b"_https"]:
                return LogicalName(bucket, owner, holds_addresses=False, exists_only=True)
            case [port, b"_https"] if _PORT_LABEL.match(port):
                return LogicalName(bucket, owner, holds_addresses=False)
        return None


def zone_of(snapshot: Snapshot) -> Zone:
    """The zone of the snapshot's deployment. Its serial is the snapshot's version, modulo 2^32 (RFC 1982)."""
    deployment = snapshot.deployment
    settings = deployment.dns
    origin = dns.name.from_text(deployment.zone)
    ttl_s = round(settings.ttl)
    names: dict[dns.name.Name, dict[int, dns.rrset.RRset]] = {}
    for rrset in (*_edge_records(deployment, origin), *_static(deployment, origin), *_infrastructure(snapshot, origin)):
        # The last one of a name and type holds: an operator's records over those of edges, the server's own over all.
        names.setdefault(rrset.name, {})[rrset.rdtype] = rrset
    for name in list(names):
        for depth in range(len(origin.labels) + 1, len(name.labels)):
            names.setdefault(dns.name.Name(name.labels[-depth:]), {})
    return Zone(origin, names, _secure_doors(deployment, origin), ttl_s, deployment.steering.answers)


def _infrastructure(snapshot: Snapshot, origin: dns.name.Name) -> Iterator[dns.rrset.RRset]:
    settings = snapshot.deployment.dns
    servers = {name: dns.name.from_text(name, origin) for name in settings.nameservers}
    # A negative answer lives for the smaller of SOA TTL and minimum (RFC 2308 section 5).
    negative_s = round(settings.ttl if settings.negative_ttl is None else settings.negative_ttl)
    mailbox = dns.name.from_text(settings.hostmaster, origin)
    numbers = f"{snapshot.version % 2**32} {REFRESH_S} {RETRY_S} {EXPIRE_S} {negative_s}"
    yield dns.rrset.from_text(origin, negative_s, IN, SOA, f"{servers[settings.nameservers[0]]} {mailbox} {numbers}")
    yield dns.rrset.from_text_list(origin, INFRASTRUCTURE_TTL_S, IN, NS, [str(name) for name in servers.values()])
    listen = ip_address(settings.listen.host)
    # "Any address of this machine" is no address to send resolvers to.
    own = [] if listen.is_unspecified else [listen]
    for label, name in servers.items():
        if name.is_subdomain(origin):
            yield from address_records(name, settings.addresses.get(label, own), INFRASTRUCTURE_TTL_S, always=True)


def _static(deployment: Deployment, origin: dns.name.Name) -> Iterator[dns.rrset.RRset]:
    ttl_s = round(deployment.dns.record_ttl)
    for label, by_type in deployment.dns.records.items():
        name = dns.name.from_text(label, origin)
        for kind, texts in by_type.items():
            yield dns.rrset.from_text_list(name, ttl_s, IN, kind, texts, origin=origin, relativize=False)


def _edge_records(deployment: Deployment, origin: dns.name.Name) -> Iterator[dns.rrset.RRset]:
    """Each edge under its node's name, and under its `host` where that is in the zone."""
    for name, _, edge in deployment.edges():
        own = [dns.name.from_text(name, origin)]
        if edge.host is not None:
            own += [host] if (host := dns.name.from_text(edge.host)).is_subdomain(origin) and host != origin else []
        for owner in own:
            yield from address_records(owner, [ip_address(edge.listen.host)], round(deployment.dns.ttl))


def _secure_doors(deployment: Deployment, origin: dns.name.Name) -> dict[str, SecureDoor]:
    return {
        name: SecureDoor(
            dns.name.from_text(name, origin) if edge.host is None else dns.name.from_text(edge.host), edge.tls.listen
        )
        for name, _, edge in deployment.edges()
        if edge.tls is not None
    }


def address_records(
    name: dns.name.Name, known: Iterable[IpAddress], ttl_s: int, *, always: bool = False
) -> Iterator[dns.rrset.RRset]:
    """The A and AAAA records of `name`, in the order of `known`. `always`: empty sets too, so that the name exists."""
    addresses = list(dict.fromkeys(known))
    for kind, version in ((A, 4), (AAAA, 6)):
        fitting = [str(address) for address in addresses if address.version == version]
        if fitting:
            yield dns.rrset.from_text_list(name, ttl_s, IN, kind, fitting)
        elif always:
            yield dns.rrset.RRset(name, IN, kind)
