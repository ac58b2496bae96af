"""Response rate limiting: what one client network may get a second over UDP without proof of its address. Pure; time is given.

Per client network (a /24, a /56) and name for answers; per client network for refusals, errors and names that do not exist, since
an attacker makes those up at will. A window is one second.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from weakref import WeakValueDictionary

PREFIX_BITS: Final = {4: 24, 6: 56}
ERRORS: Final = b""  # the name that errors are counted under; no name is empty


class Counts(dict[bytes, int]):
    """Answers of the present second by name. Kept by those who count with it, and they bound how many there are: whoever has one
    has it emptied with each second, however many networks were seen since."""

    __slots__ = ("__weakref__",)


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
        self._by_network: WeakValueDictionary[int, Counts] = WeakValueDictionary()
        self._second = 0

    def at(self, second: int) -> None:
        """Forgets what was counted in another second."""
        if second != self._second:
            self._second = second
            for counts in self._by_network.values():
                counts.clear()

    def counts_of(self, client: IPv4Address | IPv6Address) -> Counts:
        """The counters of the client's network, by name; the same ones as long as somebody keeps them."""
        host_bits = client.max_prefixlen - PREFIX_BITS[client.version]
        return self._by_network.setdefault((int(client) >> host_bits) << 1 | (client.version == 6), Counts())

    def judged(self, counts: Counts, name: bytes) -> Verdict:
        """Counts one more answer about `name` (ERRORS for those that are about none)."""
        limit = self.limits.answers if name else self.limits.errors
        before = counts.get(name, 0)
        counts[name] = before + 1
        if limit == 0 or before < limit:
            return Verdict.SEND
        beyond = before - limit
        return Verdict.SLIP if self.limits.slip and beyond % self.limits.slip == 0 else Verdict.DROP
