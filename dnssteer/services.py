"""HTTPS records (RFC 9460) of steered names: where the edges that an answer names speak TLS.

They free the edges behind one logical host from sharing a port: each can have a record with its own target and port.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

import dns.name
import dns.rrset
from dns.rdataclass import IN
from dns.rdatatype import HTTPS

from dnssteer.zone import SecureDoor, Zone
from headwater.rules.steering import SteeredEdge

# What edges speak over TLS.
ALPN: Final = "http/1.1"


def https_records(
    name: dns.name.Name, host: dns.name.Name, ranked: Sequence[SteeredEdge], zone: Zone
) -> tuple[dns.rrset.RRset, ...]:
    """The HTTPS records of `name`, which stands for the logical host `host`; none when no answered edge speaks TLS.

    Edges that share a port are one record for the logical host itself, whose addresses come in the same order. Otherwise each has
    its own target and its rank as the priority.
    """
    answered = ranked[: zone.answers]
    doors = [(edge, zone.secure[edge.name]) for edge in answered if edge.name in zone.secure]
    if not doors:
        return ()
    together = len(doors) == len(answered) and len({door.address.port for _, door in doors}) == 1
    if together and all(edge.address.host == door.address.host for edge, door in doors):
        texts = [_service(1, "." if name == host else str(host), [door for _, door in doors])]
    else:
        texts = [_service(rank, str(door.target), [door]) for rank, (_, door) in enumerate(doors, 1)]
    return (dns.rrset.from_text_list(name, zone.ttl_s, IN, HTTPS, texts),)


def _service(priority: int, target: str, doors: Sequence[SecureDoor]) -> str:
    addresses = list(dict.fromkeys(ip_address(door.address.host) for door in doors))
    hints = [
        f"{key}={','.join(fitting)}"
        for key, version in (("ipv4hint", 4), ("ipv6hint", 6))
        if (fitting := [str(address) for address in addresses if address.version == version])
    ]
    return f"{priority} {target} alpn={ALPN} port={doors[0].address.port} {' '.join(hints)}"
