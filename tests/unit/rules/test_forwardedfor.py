"""The client behind proxies: what is believed of X-Forwarded-For, and what is not."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from headwater.rules.forwardedfor import client_behind

OURS = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))

CASES = [
    # (peer, lines, client, why)
    ("198.51.100.7", ["203.0.113.5"], "198.51.100.7", "a stranger's claim is not read"),
    ("10.0.0.1", ["203.0.113.5"], "203.0.113.5", "our proxy says who asked"),
    ("10.0.0.1", ["192.0.2.99, 203.0.113.5, 10.0.0.2"], "203.0.113.5", "what the client itself claimed is left of it"),
    ("10.0.0.1", ["192.0.2.99", "203.0.113.5"], "203.0.113.5", "several lines are one list"),
    ("10.0.0.1", ["10.0.0.9"], "10.0.0.9", "a client inside our own networks"),
    ("10.0.0.1", ["unknown"], "10.0.0.1", "text that is no address ends the walk"),
    ("10.0.0.1", [], "10.0.0.1", "no field"),
    ("::ffff:10.0.0.1", ["::ffff:203.0.113.5"], "203.0.113.5", "mapped addresses are the IPv4 ones inside"),
    ("2001:db8::1", ["[2001:db9::5]"], "2001:db9::5", "brackets as in a URL"),
]


@pytest.mark.parametrize(("peer", "lines", "client", "why"), CASES)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy_of_ours(
    peer: str, lines: list[str], client: str, why: str
) -> None:
    assert client_behind(ip_address(peer), lines, OURS) == ip_address(client), why
