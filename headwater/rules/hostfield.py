"""The Host field, read strictly (RFC 9110 section 7.2, RFC 3986 section 3.2.2): two hops must not see two hosts in it. And the
hosts that a property names."""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._~!$&'()*+;=-]+))(?::([0-9]{0,5}))?")


def host_name(field: str) -> str | None:
    """The name or address without its port, in lower case and, for IPv6, in its one short form. None: it is no host."""
    match = _HOST.fullmatch(field.strip(" \t"))
    if match is None or int(match[3] or 0) > 65535:
        return None
    if match[1] is None:
        return match[2].lower()
    try:
        return str(ipaddress.IPv6Address(match[1]))
    except ValueError:
        return None


def covers(patterns: list[str], host: str) -> bool:
    """`*.cdn.test` covers one label, as in certificates (RFC 9525 section 6.3)."""
    parent = host.partition(".")[2]
    return any(pattern == host or (pattern.startswith("*.") and pattern[2:] == parent) for pattern in patterns)
