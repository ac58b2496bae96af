"""Request rates per client in bounded memory.

The virtual scheduling form of the token bucket (GCRA, ITU-T I.371 annex A): one number a client, the moment at which its
bucket is full again. Time is an argument, in seconds of any clock that only grows.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict


class TokenBuckets:
    """Buckets of `burst` tokens that refill at `rate_per_s`; at most `remembered` of them are kept.

    A forgotten bucket counts as full. Those that were not asked for longest go first: the ones most likely to be full.
    """

    def __init__(self, rate_per_s: float, burst: int, remembered: int) -> None:
        self._cost_s = 1.0 / rate_per_s
        self._depth_s = burst / rate_per_s
        self._remembered = remembered
        # In order of last use. A plain dict would do, but for looking past all that was removed from its front: 20 times slower
        # just when many addresses ask at once.
        self._full_at: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: int, now_s: float) -> float:
        """Takes one token. Returns 0 when there was one, else the seconds until there will be; a refusal costs nothing."""
        full_at = max(self._full_at.pop(key, now_s), now_s)
        wait_s = full_at + self._cost_s - self._depth_s - now_s
        if wait_s > 1e-9:
            self._full_at[key] = full_at
            return wait_s
        self._full_at[key] = full_at + self._cost_s
        if len(self._full_at) > self._remembered:
            self._full_at.popitem(last=False)
        return 0.0


def client_key(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    """One client: an IPv4 address (mapped ones too), or an IPv6 /64, which one subscriber has whole (RFC 6177)."""
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            return (1 << 64) | (int(address) >> 64)
        return int(mapped)
    return int(address)
