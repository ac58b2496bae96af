"""What edges' counters say of their health."""

from __future__ import annotations

import pytest

from control.watching.health import verdict
from control.watching.passive import FRESH_S, traffic_opinions
from control.watching.traffic import Counters, read_counters

EXPOSITION = """\
# TYPE process_start_time_seconds gauge
process_start_time_seconds 7.0
# TYPE headwater_cache_requests_total counter
headwater_cache_requests_total{outcome="hit",status="2xx"} 90.0
headwater_cache_requests_total{outcome="failed",status="5xx"} 4.0
# TYPE headwater_cache_cut_off_total counter
headwater_cache_cut_off_total{reason="SpoolBroken"} 3.0
headwater_cache_cut_off_total{reason="reader_too_slow"} 50.0
"""


def readings(failed: float, cut_off: float = 0.0, at: float = 100.0, process_start: float = 1.0) -> list[Counters]:
    """Two, three seconds apart, with 100 requests between them."""
    first = Counters(at - 3, process_start, 1, requests=1000, served=900, fetched=100, sent_bytes=0, failed=50, cut_off=9)
    last = Counters(at, 1.0, 1, requests=1100, served=990, fetched=110, sent_bytes=0, failed=50 + failed, cut_off=9 + cut_off)
    return [first, last]


GOOD = readings(failed=1)


def test_a_cut_off_counts_unless_the_client_was_too_slow() -> None:
    counters = read_counters(EXPOSITION, "edge", 10.0)
    assert (counters.failed, counters.cut_off) == (4, 3)


@pytest.mark.parametrize(
    ("of_fra", "of_iad", "named", "why"),
    [
        (readings(failed=60), GOOD, True, "it answers 5xx"),
        (readings(failed=0, cut_off=40), GOOD, True, "it cuts its clients off"),
        (readings(failed=60), readings(failed=70), False, "the other one as well: it is what stands behind both"),
        (readings(failed=60), [], False, "nothing is known of any other"),
        (readings(failed=60, at=100 - FRESH_S - 1), GOOD, False, "that was long ago"),
        (readings(failed=60, process_start=0.5), GOOD, False, "it was another life of the process"),
        (readings(failed=60)[:1], GOOD, False, "one reading is no rate"),
    ],
)
def test_who_is_called_bad(of_fra: list[Counters], of_iad: list[Counters], named: bool, why: str) -> None:
    assert ("fra-1" in traffic_opinions({"fra-1": of_fra, "iad-1": of_iad}, now=100.5)) is named, why


def test_traffic_alone_takes_nobody_out_and_tips_what_others_are_split_about() -> None:
    told = traffic_opinions({"fra-1": readings(failed=60), "iad-1": GOOD}, now=100.5)["fra-1"]
    assert told == "fails 60% of its 100 latest requests"
    assert verdict({"control": None, "traffic": told}) is None
    split = {"control": None, "shield-1": "no answer", "shield-2": None, "dns": "no answer"}
    assert verdict(split) is None
    assert verdict({**split, "traffic": told}) is not None
