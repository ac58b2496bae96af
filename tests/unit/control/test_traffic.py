"""Counters out of a node's /metrics, and the rates between two readings."""

from __future__ import annotations

import importlib
from collections import deque

import pytest

from control.watching.traffic import (
    HELD_VERSION,
    REQUESTS,
    SENT_BYTES,
    WINDOW_S,
    Counters,
    UnreadableMetrics,
    read_counters,
    remember,
    traffic,
)
from headwater.runtime.metrics import DECLARED

EXPOSITION = """\
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.79520352e+09
# TYPE headwater_snapshot_version gauge
headwater_snapshot_version 1.795203521e+09
# TYPE headwater_cache_requests_total counter
headwater_cache_requests_total{outcome="hit",status="2xx"} 90.0
headwater_cache_requests_total{outcome="collapsed",status="2xx"} 5.0
headwater_cache_requests_total{outcome="miss",status="2xx"} 4.0
headwater_cache_requests_total{outcome="revalidated",status="3xx"} 1.0
headwater_cache_requests_total{outcome="refused",status="4xx"} 50.0
headwater_cache_requests_created{outcome="hit",status="2xx"} 1.7e+09
headwater_cache_sent_bytes_total{outcome="hit"} 1000.0
headwater_cache_sent_bytes_total{outcome="miss"} 24.0
"""


def test_counters_of_an_edge() -> None:
    assert read_counters(EXPOSITION, "edge", 10.0) == Counters(
        at=10.0, process_start=1.79520352e9, held_version=1795203521, requests=150, served=95, fetched=5, sent_bytes=1024
    )


def test_a_role_without_traffic_has_its_start_and_version() -> None:
    counters = read_counters(EXPOSITION, "origin-transcoder", 10.0)
    assert (counters.held_version, counters.requests, counters.sent_bytes) == (1795203521, 0, 0)


def test_metrics_that_are_none_are_an_error_with_a_name() -> None:
    with pytest.raises(UnreadableMetrics):
        read_counters("headwater_snapshot_version {{{\n", "edge", 1.0)


def reading(at: float, requests: float, served: float, fetched: float, sent: float, start: float = 1.0) -> Counters:
    return Counters(at, start, 7, requests, served, fetched, sent)


def test_rates_between_readings() -> None:
    rates = traffic([reading(0, 100, 90, 10, 1000), reading(10, 200, 165, 35, 2250)])
    assert rates is not None
    assert (rates.requests_per_s, rates.delivered_per_s, rates.egress_bps, rates.hit_ratio) == (10, 10, 1000, 0.75)
    assert (rates.requests_total, rates.sent_bytes_total) == (200, 2250)


def test_without_requests_there_is_no_hit_ratio_and_without_two_readings_no_rate() -> None:
    quiet = traffic([reading(0, 1, 1, 0, 0), reading(3, 1, 1, 0, 0)])
    assert quiet is not None
    assert quiet.hit_ratio is None
    assert traffic([reading(0, 1, 1, 0, 0)]) is None


def test_readings_cover_the_window_and_one_life_of_the_process() -> None:
    readings: deque[Counters] = deque()
    for second in range(0, 100, 3):
        remember(readings, reading(second, second, 0, 0, 0))
    assert WINDOW_S <= readings[-1].at - readings[0].at < WINDOW_S + 3
    remember(readings, reading(102, 0, 0, 0, 0, start=101.0))
    assert len(readings) == 1


def test_every_metric_that_control_reads_is_declared_by_the_role_that_has_it() -> None:
    for module in (
        "dnssteer.metrics",
        "headwater.runtime.snapshots",
        "headwater.cacheproxy.metrics",
        "origin.byteserver.handler",
        "origin.api.observed",
    ):
        importlib.import_module(module)
    names = {*REQUESTS.values(), *SENT_BYTES.values(), HELD_VERSION}
    assert names <= set(DECLARED)
    assert DECLARED[REQUESTS["edge"]].labels[0] == "outcome"
