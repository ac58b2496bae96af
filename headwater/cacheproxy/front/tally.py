"""Requests counted in plain numbers, by how they ended: the metrics' own counters each take a lock.

What was counted goes into the metrics whenever somebody reads them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial

from headwater.cacheproxy.metrics import FIRST_BYTE, REQUESTS, SENT_BYTES
from headwater.runtime.metrics import SECONDS_BUCKETS, TALLIES

_bucket_of = partial(bisect_left, SECONDS_BUCKETS)


class Tally:
    """The requests of one outcome and status class since the last `take`."""

    __slots__ = ("_buckets", "_bytes", "_first_bytes", "_requests", "_seconds", "_sent", "_total")

    def __init__(self, outcome: str, status_class: str) -> None:
        self._total = REQUESTS.labels(outcome, status_class)
        self._sent = SENT_BYTES.labels(outcome)
        self._first_bytes = FIRST_BYTE.labels(outcome)
        self._begin()

    def _begin(self) -> None:
        self._requests = self._bytes = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(SECONDS_BUCKETS) + 1)

    def count(self, sent_bytes: int, first_byte_s: float | None) -> None:
        """`first_byte_s` is None for a request that got no answer."""
        self._requests += 1
        self._bytes += sent_bytes
        if first_byte_s is not None:
            self._seconds += first_byte_s
            self._buckets[_bucket_of(first_byte_s)] += 1

    def count_many(self, sent_bytes: Sequence[int], first_byte_s: Sequence[float]) -> None:
        """Requests that all got an answer, one by one as in `count`."""
        self._requests += len(sent_bytes)
        self._bytes += sum(sent_bytes)
        self._seconds += sum(first_byte_s)
        for bucket, observed in Counter(map(_bucket_of, first_byte_s)).items():
            self._buckets[bucket] += observed

    def take(self) -> None:
        """Moves what was counted into the metrics."""
        self._total.inc(self._requests)
        self._sent.inc(self._bytes)
        self._first_bytes._sum.inc(self._seconds)  # the library has no way to observe many values at once
        for bucket, observed in zip(self._first_bytes._buckets, self._buckets, strict=True):
            bucket.inc(observed)
        self._begin()


@cache
def tally_of(outcome: str, status_class: int) -> Tally:
    """The process's tally for an ending, of which there are few. `status_class` is the status' first digit."""
    tally = Tally(outcome, f"{status_class}xx")
    TALLIES.append(tally.take)
    return tally
