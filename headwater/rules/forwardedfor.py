"""Who the client is when proxies stand in front. Pure.

`X-Forwarded-For: client, proxy1, proxy2`: each proxy appends the address that it was asked from. Anybody can send the field, so
it is read from the right and only as far as the asker is a trusted proxy: the first address that is none is the client.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network


def client_behind(peer: IpAddress, forwarded_for: Sequence[str], trusted: Iterable[IpNetwork]) -> IpAddress:
    """The client's address. `forwarded_for` are the field's lines in order; text that is no address ends the walk."""
    networks = tuple(trusted)
    client = plain(peer)
    claims = [claim.strip() for line in forwarded_for for claim in line.split(",")]
    while claims and _inside(client, networks):
        try:
            client = plain(ip_address(claims.pop().strip('"[]').partition("%")[0]))
        except ValueError:
            break
    return client


def plain(address: IpAddress) -> IpAddress:
    """An IPv4-mapped address as the IPv4 address inside."""
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _inside(address: IpAddress, networks: Iterable[IpNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
