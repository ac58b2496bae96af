"""Quantities in config files carry their unit: `4 s`, `250 ms`, `8 MiB`, `20 Mbit/s`. A bare number is refused.

In code they are plain numbers whose names carry the unit (`_s`, `_bytes`, `_bps`).
"""

from __future__ import annotations

import ipaddress
import math
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from headwater.rules.addresses import Address as Address

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z/]+)\s*\Z")
DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
RATE_UNITS: Final = {"bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9}


def _quantity(value: object, units: dict[str, Any], example: str) -> float:
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"a number with a unit was expected, such as {example!r} (units: {', '.join(units)})")
    quantity = float(match[1]) * float(units[match[2]])
    if math.isinf(quantity):
        raise ValueError(f"is too large a number; one with a unit was expected, such as {example!r}")
    return quantity


def parse_duration_s(value: object) -> float:
    """Seconds of `4 s`, `250 ms`, `1.5 h`."""
    return _quantity(value, DURATION_UNITS, "4 s")


def parse_size_bytes(value: object) -> int:
    """Bytes of `8 MiB`."""
    return round(_quantity(value, SIZE_UNITS, "8 MiB"))


def parse_rate_bps(value: object) -> int:
    """Bits per second of `20 Mbit/s`."""
    return round(_quantity(value, RATE_UNITS, "20 Mbit/s"))


def format_duration(seconds: float) -> str:
    """The form that `parse_duration_s` reads back to the same number, in the largest unit that divides it."""
    for unit, size_s in reversed(DURATION_UNITS.items()):
        if seconds >= size_s and (seconds / size_s).is_integer():
            return f"{int(seconds / size_s)} {unit}"
    return f"{seconds!r} s" if "e" not in repr(seconds) else f"{seconds:.9f} s"


def format_size(size_bytes: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % SIZE_UNITS[unit] == 0:
            return f"{size_bytes // SIZE_UNITS[unit]} {unit}"
    return f"{size_bytes} B"


def parse_address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            if colon and 0 < int(port) < 65536:
                return Address(str(ipaddress.ip_address(host)), int(port))
        except ValueError:
            pass
    raise ValueError("an IP address and a port from 1 to 65535 were expected, such as '127.0.0.1:7080'")


def parse_network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        network = ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        raise ValueError("a network such as '192.0.2.0/24' or '2001:db8::/48' was expected") from None
    if str(network.network_address) != str(ipaddress.ip_interface(str(value)).ip):
        raise ValueError(f"the address has bits beyond the network's length; did you mean '{network}'?")
    return network


DurationS = Annotated[
    float,
    BeforeValidator(parse_duration_s),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "format": "duration"}),
]
SizeBytes = Annotated[
    int,
    BeforeValidator(parse_size_bytes),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"type": "string", "format": "size"}),
]
RateBps = Annotated[
    int,
    BeforeValidator(parse_rate_bps),
    PlainSerializer(lambda bps: f"{bps} bit/s", return_type=str),
    WithJsonSchema({"type": "string", "format": "rate"}),
]
ListenAddress = Annotated[
    Address,
    BeforeValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "address"}),
]


def parse_ip_address(value: object) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        return ipaddress.ip_address(str(value))
    except ValueError:
        raise ValueError("an IP address such as '192.0.2.1' or '2001:db8::1' was expected") from None


IpAddress = Annotated[
    IPv4Address | IPv6Address,
    PlainValidator(parse_ip_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "address"}),
]
Network = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(parse_network),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "network"}),
]
