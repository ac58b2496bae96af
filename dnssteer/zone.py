"""The zone as the server answers it: its fixed records, made once from a deployment."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import dns.name
import dns.rrset
from dns.rdataclass import IN
from dns.rdatatype import NS, SOA

from headwater.settings.snapshot import Snapshot

# Nobody transfers the zone, so these matter to no one, but checkers of zones want them sane (RFC 1912 section 2.2).
REFRESH_S: Final = 3600
RETRY_S: Final = 600
EXPIRE_S: Final = 604_800
INFRASTRUCTURE_TTL_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Zone:
    """`ttl_s` is that of steered and of negative answers; `answers` how many edges an answer names."""

    origin: dns.name.Name
    soa: dns.rrset.RRset
    nameservers: dns.rrset.RRset
    server_names: tuple[dns.name.Name, ...]
    server_addresses: tuple[IPv4Address | IPv6Address, ...]
    ttl_s: int
    answers: int


def zone_of(snapshot: Snapshot) -> Zone:
    """The zone of the snapshot's deployment. Its serial is the snapshot's version, modulo 2^32 (RFC 1982)."""
    settings = snapshot.deployment.dns
    origin = dns.name.from_text(snapshot.deployment.zone)
    servers = tuple(dns.name.from_text(name, origin) for name in settings.nameservers)
    ttl_s = round(settings.ttl)
    mailbox = dns.name.from_text(settings.hostmaster, origin)
    serial = snapshot.version % 2**32
    soa = f"{servers[0]} {mailbox} {serial} {REFRESH_S} {RETRY_S} {EXPIRE_S} {ttl_s}"
    address = ip_address(settings.listen.host)
    return Zone(
        origin=origin,
        # A negative answer lives for the smaller of SOA TTL and minimum (RFC 2308 section 5).
        soa=dns.rrset.from_text(origin, ttl_s, IN, SOA, soa),
        nameservers=dns.rrset.from_text_list(origin, INFRASTRUCTURE_TTL_S, IN, NS, [str(server) for server in servers]),
        server_names=servers,
        # "Any address of this machine" is no address to send resolvers to.
        server_addresses=() if address.is_unspecified else (address,),
        ttl_s=ttl_s,
        answers=snapshot.deployment.steering.answers,
    )
