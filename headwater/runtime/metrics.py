"""Metrics are declared once, at module level of the package that counts them; the declaration is also the documentation.

Names follow Prometheus: `headwater_{subsystem}_{what}_{unit}`, counters end in `_total`. Labels hold named outcomes
(enums), never ids, paths or addresses, so that their number stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE_LATEST
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

SECONDS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric, as docs/metrics.md lists it."""

    name: str
    kind: str
    description: str
    labels: tuple[str, ...]


DECLARED: dict[str, Declared] = {}


def counter(name: str, description: str, labels: Sequence[str] = ()) -> Counter:
    DECLARED[name] = Declared(name, "counter", description, tuple(labels))
    return Counter(name, description, labels)


def gauge(name: str, description: str, labels: Sequence[str] = ()) -> Gauge:
    DECLARED[name] = Declared(name, "gauge", description, tuple(labels))
    return Gauge(name, description, labels)


def histogram(name: str, description: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS_BUCKETS) -> Histogram:
    DECLARED[name] = Declared(name, "histogram", description, tuple(labels))
    return Histogram(name, description, labels, buckets=tuple(buckets))


# Hot paths that count in plain numbers: each puts what it has counted into its metrics when it is called.
TALLIES: list[Callable[[], None]] = []


def take_tallies() -> None:
    for tally in TALLIES:
        tally()


def exposition() -> tuple[bytes, str]:
    """(body, content type) of this process's metrics in Prometheus text format."""
    take_tallies()
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


def value(name: str, **labels: str) -> float:
    """The present value of one series, 0 when it was never touched. For tests and status pages of the same process."""
    take_tallies()
    return REGISTRY.get_sample_value(name, labels) or 0.0
