"""Which region a client's address belongs to, and how many of its bits decide that."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.regions import RegionMatch
from headwater.rules.steering import Region, World, region_of

Network = IPv4Network | IPv6Network


def world(**networks: list[str]) -> World:
    regions = tuple(Region(name, tuple(map(ip_network, listed))) for name, listed in networks.items())
    return World((*regions, Region("rest")), (), (), "rest")


NESTED = world(eu=["10.0.0.0/8", "2001:db8::/32"], us=["10.128.0.0/16", "2001:db8:8000::/33"], ap=["10.128.7.0/24", "0.0.0.0/8"])

TABLE = [
    # client, region, bits that decide, why
    ("10.1.2.3", "eu", 9, "10.0.0.0/9 holds no other region"),
    ("10.129.0.1", "eu", 16, "its neighbour 10.128.0.0/16 is another region's"),
    ("10.128.0.1", "us", 22, "10.128.0.0/22 ends before 10.128.7.0/24"),
    ("10.128.6.1", "us", 24, "10.128.7.0/24 is next to it"),
    ("10.128.7.1", "ap", 24, "the longest match wins"),
    ("9.0.0.1", "rest", 7, "no match: the default region, as far as 8.0.0.0/7 goes"),
    ("192.0.2.1", "rest", 1, "half of the addresses are nobody's"),
    ("0.0.0.1", "ap", 8, "the lowest address"),
    ("255.255.255.255", "rest", 1, "the highest address"),
    ("2001:db8:1::1", "eu", 33, "IPv6 nested"),
    ("2001:db8:8000::1", "us", 33, "IPv6 nested, the longer match"),
    ("::ffff:10.128.7.1", "ap", 96 + 24, "IPv4-mapped (RFC 4291 section 2.5.5.2)"),
]


@pytest.mark.parametrize(("client", "region", "bits", "why"), TABLE)
def test_longest_prefix_match_and_its_deciding_bits(client: str, region: str, bits: int, why: str) -> None:
    assert region_of(ip_address(client), NESTED) == RegionMatch(region, bits), why


KNOWN_BITS = [
    # subnet, region, bits that would decide, why
    ("10.128.7.0/24", "ap", 24, "just enough"),
    ("10.128.0.0/16", "us", 22, "most of it is us; a longer prefix would say more"),
    ("10.0.0.0/8", "eu", 9, "most of it is eu"),
    ("10.1.0.0/16", "eu", 9, "more than enough: the answer fits a shorter prefix"),
    ("0.0.0.0/0", "rest", 8, "nothing known: what most addresses have"),
    ("::ffff:10.128.7.0/120", "ap", 120, "IPv4-mapped"),
]


@pytest.mark.parametrize(("subnet", "region", "bits", "why"), KNOWN_BITS)
def test_a_subnet_of_a_client(subnet: str, region: str, bits: int, why: str) -> None:
    network = ip_network(subnet)
    assert region_of(network.network_address, NESTED, network.prefixlen) == RegionMatch(region, bits), why


def test_without_networks_everyone_is_in_the_default_region() -> None:
    assert region_of(ip_address("203.0.113.9"), world()) == RegionMatch("rest", 0)


def test_of_equal_networks_the_first_region_by_name_holds() -> None:
    assert region_of(ip_address("10.0.0.1"), world(zz=["10.0.0.0/8"], aa=["10.0.0.0/8"])).region == "aa"


# Few distinct high bits, so that networks nest and touch.
crowded_ipv4 = st.integers(0, 255).map(lambda high: high << 24)
ipv4_networks = st.builds(lambda high, length: IPv4Network((high, length), strict=False), crowded_ipv4, st.integers(0, 10))
listed_networks = st.lists(st.tuples(ipv4_networks, st.sampled_from(["a", "b", "c"])), max_size=8)


def world_with(listed: list[tuple[IPv4Network, str]]) -> World:
    regions = tuple(Region(name, tuple(net for net, owner in listed if owner == name)) for name in "abc")
    return World((*regions, Region("rest")), (), (), "rest")


def longest_match(client: IPv4Address, listed: list[tuple[IPv4Network, str]]) -> str:
    """The definition, spelled out slowly."""
    matching = [(-net.prefixlen, owner) for net, owner in listed if client in net]
    return min(matching)[1] if matching else "rest"


@given(listed_networks, crowded_ipv4.map(IPv4Address))
def test_the_region_is_that_of_the_longest_match(listed: list[tuple[IPv4Network, str]], client: IPv4Address) -> None:
    assert region_of(client, world_with(listed)).region == longest_match(client, listed)


@given(listed_networks, crowded_ipv4.map(IPv4Address))
def test_the_scope_is_safe_to_cache_and_as_short_as_can_be(listed: list[tuple[IPv4Network, str]], client: IPv4Address) -> None:
    match = region_of(client, world_with(listed))

    def regions_inside(prefix_len: int) -> set[str]:
        """Regions of all addresses in the client's network of this length; networks above are multiples of a /10."""
        network = IPv4Network((client, prefix_len), strict=False)
        return {longest_match(network[i << 22], listed) for i in range(max(1, network.num_addresses >> 22))}

    assert regions_inside(match.prefix_len) == {match.region}
    if match.prefix_len > 0:
        assert len(regions_inside(match.prefix_len - 1)) > 1


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), listed_networks)
def test_a_subnet_gets_one_answer_whatever_its_unknown_bits_are(
    address: int, known_bits: int, listed: list[tuple[IPv4Network, str]]
) -> None:
    some_world = world_with(listed)
    subnet = IPv4Network((address, known_bits), strict=False)
    assert region_of(IPv4Address(address), some_world, known_bits) == region_of(subnet.network_address, some_world, known_bits)


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_mapped_address_is_the_ipv4_address_inside(address: int) -> None:
    plain, mapped = region_of(IPv4Address(address), NESTED), region_of(IPv6Address(address | 0xFFFF << 32), NESTED)
    assert mapped == RegionMatch(plain.region, plain.prefix_len + 96)
