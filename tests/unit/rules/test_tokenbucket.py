from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.tokenbucket import TokenBuckets, client_key


def test_a_burst_passes_and_then_the_rate() -> None:
    buckets = TokenBuckets(rate_per_s=10, burst=3, remembered=10)
    assert [buckets.take(1, 0.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take(1, 0.0) == pytest.approx(0.1)
    assert buckets.take(2, 0.0) == 0  # another client has a bucket of its own
    assert buckets.take(1, 0.1) == 0
    assert buckets.take(1, 0.1) > 0


def test_a_refusal_costs_nothing() -> None:
    buckets = TokenBuckets(rate_per_s=1, burst=1, remembered=10)
    buckets.take(1, 0.0)
    for tenth in range(10):
        assert buckets.take(1, tenth / 10) > 0
    assert buckets.take(1, 1.0) == 0


def test_those_not_seen_for_longest_are_forgotten() -> None:
    buckets = TokenBuckets(rate_per_s=1, burst=1, remembered=2)
    for key in (1, 2, 1, 3):
        buckets.take(key, 0.0)
    assert len(buckets) == 2
    assert buckets.take(1, 0.0) > 0


@given(
    st.floats(0.5, 1000),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), max_size=100),
)
def test_no_client_gets_more_than_its_burst_and_rate(rate: float, burst: int, asked: list[tuple[int, float]]) -> None:
    buckets = TokenBuckets(rate, burst, remembered=10)
    now, passed = 0.0, dict.fromkeys(range(4), 0)
    for key, pause in asked:
        now += pause
        passed[key] += buckets.take(key, now) == 0
        assert passed[key] <= burst + rate * now + 1e-6


def test_a_client_is_an_ipv4_address_or_an_ipv6_64() -> None:
    assert client_key(ip_address("192.0.2.1")) == client_key(ip_address("::ffff:192.0.2.1"))
    assert client_key(ip_address("2001:db8::1")) == client_key(ip_address("2001:db8::2"))
    assert client_key(ip_address("2001:db8::1")) != client_key(ip_address("2001:db8:0:1::1"))
