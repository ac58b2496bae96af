"""What a node's /metrics say of its traffic: counters read from the text, and rates between two readings. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from headwater.rules.cachestatus import Outcome
from headwater.settings.deployment import Role

WINDOW_S: Final = 30.0  # long enough to be calm, short enough to see a drain work
PROCESS_START: Final = "process_start_time_seconds"
HELD_VERSION: Final = "headwater_snapshot_version"
REQUESTS: Final[dict[Role, str]] = {
    "edge": "headwater_cache_requests_total",
    "shield": "headwater_cache_requests_total",
    "origin-bytes": "headwater_origin_requests_total",
    "origin-api": "headwater_api_requests_total",
    "dns": "headwater_dns_queries_total",
}
SENT_BYTES: Final[dict[Role, str]] = {
    "edge": "headwater_cache_sent_bytes_total",
    "shield": "headwater_cache_sent_bytes_total",
    "origin-bytes": "headwater_origin_sent_bytes_total",
}
CUT_OFF: Final = "headwater_cache_cut_off_total"
OF_THE_CLIENT: Final = "reader_too_slow"  # the one reason among cut-offs that is no fault of the node
FETCHED_AHEAD: Final = "headwater_ahead_bytes_total"
USED_AHEAD: Final = "headwater_ahead_used_bytes_total"
# Outcomes of a cache that cost its parent no request of their own, and those that did. Refusals are neither.
SERVED_OUTCOMES: Final = frozenset({Outcome.HIT, Outcome.STALE, Outcome.STALE_ON_ERROR, Outcome.COLLAPSED})
FETCHED_OUTCOMES: Final = frozenset({Outcome.MISS, Outcome.REVALIDATED, Outcome.PASS})


class UnreadableMetrics(ValueError):
    """The text is not in Prometheus' format."""


@dataclass(frozen=True, slots=True)
class Counters:
    """One reading. Times are Unix seconds; the rest counts from the start of the node's process. `failed` were answered 5xx.
    `cut_off` are clients that the node cut off in the middle of a body. `fetched_ahead` and `used_ahead` are bytes by why they
    were fetched before anybody asked."""

    at: float
    process_start: float
    held_version: int | None
    requests: float
    served: float
    fetched: float
    sent_bytes: float
    failed: float = 0.0
    fetched_ahead: Mapping[str, float] = field(default_factory=dict)
    used_ahead: Mapping[str, float] = field(default_factory=dict)
    cut_off: float = 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Rates over the last half minute.

    `delivered_per_s` leaves out what a cache refused or failed, and is 0 for a node that is no cache; `hit_ratio` is None
    for such a node, and when nothing was delivered.
    """

    requests_per_s: float
    delivered_per_s: float
    egress_bps: float
    hit_ratio: float | None
    requests_total: int
    sent_bytes_total: int


def read_counters(text: str, role: Role, at: float) -> Counters:
    """The counters that matter for `role` in an exposition. Raises UnreadableMetrics."""
    requests_name, bytes_name = REQUESTS.get(role), SENT_BYTES.get(role)
    wanted = tuple(
        name for name in (PROCESS_START, HELD_VERSION, CUT_OFF, FETCHED_AHEAD, USED_AHEAD, requests_name, bytes_name) if name
    )
    # Most lines are buckets of histograms that nobody asked for; the parser is slow on them.
    lines = "".join(f"{line}\n" for line in text.splitlines() if line.startswith(wanted))
    try:
        samples = [sample for family in text_string_to_metric_families(lines) for sample in family.samples]
    except (ValueError, IndexError, KeyError) as error:
        raise UnreadableMetrics(f"metrics cannot be read: {error}") from error
    requests = [sample for sample in samples if sample.name == requests_name]
    held = [sample.value for sample in samples if sample.name == HELD_VERSION]
    return Counters(
        at=at,
        process_start=sum(sample.value for sample in samples if sample.name == PROCESS_START),
        held_version=int(held[0]) if held else None,
        requests=sum(sample.value for sample in requests),
        served=_with_outcome(requests, SERVED_OUTCOMES),
        fetched=_with_outcome(requests, FETCHED_OUTCOMES),
        sent_bytes=sum(sample.value for sample in samples if sample.name == bytes_name),
        failed=sum(sample.value for sample in requests if sample.labels.get("status") == "5xx"),
        fetched_ahead=_by_why(samples, FETCHED_AHEAD),
        used_ahead=_by_why(samples, USED_AHEAD),
        cut_off=sum(one.value for one in samples if one.name == CUT_OFF and one.labels.get("reason") != OF_THE_CLIENT),
    )


def _by_why(samples: Iterable[Sample], name: str) -> dict[str, float]:
    return {sample.labels["why"]: sample.value for sample in samples if sample.name == name}


def _with_outcome(samples: Sequence[Sample], outcomes: frozenset[Outcome]) -> float:
    return sum(sample.value for sample in samples if sample.labels.get("outcome") in outcomes)


def remember(readings: deque[Counters], reading: Counters) -> None:
    """Adds a reading and drops those that are too old, or of an earlier life of the node."""
    if readings and readings[-1].process_start != reading.process_start:
        readings.clear()
    readings.append(reading)
    while len(readings) > 2 and readings[1].at <= reading.at - WINDOW_S:
        readings.popleft()


def traffic(readings: Sequence[Counters]) -> Traffic | None:
    """Rates between the first and the last reading; None until there are two."""
    if len(readings) < 2:
        return None
    first, last = readings[0], readings[-1]
    seconds = max(last.at - first.at, 0.001)
    served, fetched = last.served - first.served, last.fetched - first.fetched
    return Traffic(
        requests_per_s=(last.requests - first.requests) / seconds,
        delivered_per_s=(served + fetched) / seconds,
        egress_bps=(last.sent_bytes - first.sent_bytes) * 8 / seconds,
        hit_ratio=served / (served + fetched) if served + fetched > 0 else None,
        requests_total=int(last.requests),
        sent_bytes_total=int(last.sent_bytes),
    )
