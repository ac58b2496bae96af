"""What a run measures, as it happens. Latencies go into HDR histograms, in microseconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from hdrh.histogram import HdrHistogram

from loadtest.cachesteps import CacheStep
from loadtest.failures import Cause
from signer.urls import split_grant

LONGEST_US: Final = 3_600_000_000
SIGNIFICANT_DIGITS: Final = 3


class Latencies:
    """A distribution of seconds."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, LONGEST_US, SIGNIFICANT_DIGITS)

    def record(self, seconds: float) -> None:
        self._histogram.record_value(min(max(round(seconds * 1e6), 1), LONGEST_US))

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    def percentile_s(self, percent: float) -> float | None:
        return float(self._histogram.get_value_at_percentile(percent)) / 1e6 if self.count else None

    def summary(self) -> dict[str, float | None]:
        return {"count": self.count} | {f"p{percent:g}_s": self.percentile_s(percent) for percent in (50, 95, 99, 100)}


@dataclass(slots=True)
class TierHits:
    """Answers of one tier, as their Cache-Status says."""

    hits: int = 0
    collapsed: int = 0
    misses: int = 0

    @property
    def ratio(self) -> float | None:
        asked = self.hits + self.collapsed + self.misses
        return self.hits / asked if asked else None


@dataclass(slots=True)
class Measures:
    """All viewers record into one. `objects` are the different paths fetched, without their grants."""

    startup: Latencies = field(default_factory=Latencies)
    names: Latencies = field(default_factory=Latencies)
    api: Latencies = field(default_factory=Latencies)
    first_bytes: Latencies = field(default_factory=Latencies)
    transfers: Latencies = field(default_factory=Latencies)
    played_s: float = 0.0
    stalled_s: float = 0.0
    seeking_s: float = 0.0
    stalls: int = 0
    finished: int = 0
    received_bytes: int = 0
    requests: int = 0
    objects: set[str] = field(default_factory=set)
    rung_s: dict[str, float] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    failure_details: dict[str, str] = field(default_factory=dict)
    tiers: dict[str, TierHits] = field(default_factory=lambda: {"edge": TierHits(), "shield": TierHits()})
    edges: Counter[str] = field(default_factory=Counter)

    def first_byte(self, seconds: float) -> None:
        self.first_bytes.record(seconds)

    def fetched(self, url: str, size_bytes: int, took_s: float, steps: Sequence[CacheStep]) -> None:
        self.requests += 1
        self.received_bytes += size_bytes
        self.transfers.record(took_s)
        self.objects.add(urlsplit(split_grant(url)[1]).path)
        # The tier nearest the viewer is the edge; what it did not have, the shield behind it was asked for.
        for tier, step in zip(("edge", "shield"), steps, strict=False):
            hits = self.tiers[tier]
            if step.hit:
                hits.hits += 1
            elif step.collapsed:
                hits.collapsed += 1
            else:
                hits.misses += 1
            if tier == "edge":
                self.edges[step.node] += 1

    def showed(self, rung: str, seconds: float) -> None:
        """Seconds of one rung that were fetched to be shown."""
        self.rung_s[rung] = self.rung_s.get(rung, 0.0) + seconds

    def retried(self, cause: Cause) -> None:
        self.retries[cause] += 1

    def gave_up(self, cause: Cause, detail: str) -> None:
        """A viewer ended without having watched. The first detail of each cause is kept."""
        self.failures[cause] += 1
        self.failure_details.setdefault(cause, detail)

    @property
    def rebuffer_ratio(self) -> float | None:
        shown_s = self.played_s + self.stalled_s
        return self.stalled_s / shown_s if shown_s else None
