"""Do the measures meet the scenario's objectives? Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from loadtest.measures import Measures
from loadtest.scenario import Objectives


@dataclass(frozen=True, slots=True)
class Judged:
    """One objective. `measured` None: it could not be measured, and so does not hold; `why_not` says why."""

    name: str
    bound: Literal["at most", "at least"]
    limit: float
    measured: float | None
    why_not: str | None = None

    @property
    def met(self) -> bool:
        if self.measured is None:
            return False
        return self.measured <= self.limit if self.bound == "at most" else self.measured >= self.limit


def judge(objectives: Objectives, measures: Measures, origin_requests: float | None) -> list[Judged]:
    """Every objective given. `origin_requests`: what the byte server counted, None when it could not be read."""
    return list(_judged(objectives, measures, origin_requests))


def _judged(objectives: Objectives, measures: Measures, origin_requests: float | None) -> Iterator[Judged]:
    if (limit := objectives.startup_p95) is not None:
        yield Judged("startup_p95", "at most", limit, measures.startup.percentile_s(95), "nobody saw a picture")
    if (limit := objectives.rebuffer_ratio) is not None:
        yield Judged("rebuffer_ratio", "at most", limit, measures.rebuffer_ratio, "nothing was played")
    if objectives.failures is not None:
        yield Judged("failures", "at most", objectives.failures, measures.failures.total())
    if objectives.retries is not None:
        yield Judged("retries", "at most", objectives.retries, measures.retries.total())
    if (limit := objectives.hit_ratio_edge) is not None:
        yield Judged("hit_ratio_edge", "at least", limit, measures.tiers["edge"].ratio, "no answer had a Cache-Status")
    if (limit := objectives.origin_requests_per_object) is not None:
        ratio = origin_requests / len(measures.objects) if origin_requests is not None and measures.objects else None
        yield Judged("origin_requests_per_object", "at most", limit, ratio, "the byte server's /metrics were not read (--config)")
