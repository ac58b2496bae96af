"""Response rate limiting: what one client network may get a second over UDP without proof of its address. Pure; time is given.

Per client network (a /24, a /56) and name for answers; per client network for refusals, errors and names that do not exist, since
an attacker makes those up at will. A window is one second.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

PREFIX_BITS: Final = {4: 24, 6: 56}
ERRORS: Final = b""  # the name that errors are counted under; no name is empty
MAX_NETWORKS: Final = 65_536  # memory for that many; a flood from more addresses than that starts the second anew

Counts = dict[bytes, int]


class Verdict(StrEnum):
    """What to do with an answer."""

    SEND = "send"
    SLIP = "slip"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Limits:
    """As in the settings; 0 is no limit."""

    answers: int
    errors: int
    slip: int


class RateLimiter:
    """Counts the answers of the present second."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._by_network: dict[int, Counts] = {}
        self._second = 0

    def at(self, second: int) -> None:
        """Forgets what was counted in another second."""
        if second != self._second:
            self._second = second
            for counts in self._by_network.values():
                counts.clear()
            if len(self._by_network) > MAX_NETWORKS:
                self._by_network.clear()

    def counts_of(self, client: IPv4Address | IPv6Address) -> Counts:
        """The counters of the client's network, by name."""
        host_bits = client.max_prefixlen - PREFIX_BITS[client.version]
        return self._by_network.setdefault((int(client) >> host_bits) << 1 | (client.version == 6), {})

    def judged(self, counts: Counts, name: bytes) -> Verdict:
        """Counts one more answer about `name` (ERRORS for those that are about none)."""
        limit = self.limits.answers if name else self.limits.errors
        before = counts.get(name, 0)
        counts[name] = before + 1
        if limit == 0 or before < limit:
            return Verdict.SEND
        beyond = before - limit
        return Verdict.SLIP if self.limits.slip and beyond % self.limits.slip == 0 else Verdict.DROP
