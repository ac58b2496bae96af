"""Networks in config files: one clear reason, and the network that was meant."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from pydantic import TypeAdapter

from headwater.settings.units import Network, parse_network

ADAPTER: TypeAdapter[object] = TypeAdapter(Network)


@pytest.mark.parametrize("text", ["192.0.2.0/24", "192.0.2.1/32", "2001:db8::/48", "0.0.0.0/0"])
def test_a_network_is_read_and_written_alike(text: str) -> None:
    assert parse_network(text) == ip_network(text)
    assert ADAPTER.dump_python(ADAPTER.validate_python(text), mode="json") == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("192.0.2.1/24", "did you mean '192.0.2.0/24'"),
        ("2001:db8::1/48", "did you mean '2001:db8::/48'"),
        ("here", "such as"),
        (3, "such as"),
    ],
)
def test_a_wrong_network_gets_one_reason(text: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_network(text)
