"""The nightly window, what a region will likely watch, and what edges should fetch of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.names import BUCKETS, bucket_of, video_id_from_bits
from headwater.rules.prepositioning import DAY_S, Hot, Window, aged, parse_window, plan_fills, top_videos
from headwater.rules.warmorder import Wanted

VIDEOS = [video_id_from_bits(bytes([n]) * 8) for n in range(6)]
A, B, C = VIDEOS[:3]


def objects(video: str, count: int = 3, size: int = 100) -> list[Hot]:
    return [Hot(f"video/videos/{video}/h264/360p/segment_{n:05d}.m4s", size) for n in range(count)]


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "began"),
    [
        ("02:00-05:00", "2026-11-20 01:59:59", None),
        ("02:00-05:00", "2026-11-20 02:00:00", "2026-11-20 02:00"),
        ("02:00-05:00", "2026-11-20 04:59:59", "2026-11-20 02:00"),
        ("02:00-05:00", "2026-11-20 05:00:00", None),
        ("23:00-01:30", "2026-11-20 23:10:00", "2026-11-20 23:00"),
        ("23:00-01:30", "2026-11-21 01:29:00", "2026-11-20 23:00"),
        ("23:00-01:30", "2026-11-21 01:30:00", None),
    ],
)
def test_a_window_names_its_night_by_when_it_began(window: str, now: str, began: str | None) -> None:
    assert parse_window(window).opened_at(at(now)) == (None if began is None else at(began))
    assert str(parse_window(window)) == window


@pytest.mark.parametrize("text", ["2:00-5:00", "02:00", "24:00-01:00", "02:00-02:00", "02:60-03:00", 7, None])
def test_a_window_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected|length"):
        parse_window(text)


@given(st.integers(0, 1439), st.integers(1, 1439), st.floats(0, 4e9))
def test_a_window_is_open_for_its_length_each_day(start: int, length: int, now: float) -> None:
    window = Window(start * 60, length * 60)
    assert parse_window(str(window)) == window
    began = window.opened_at(now)
    assert began is None or (began % DAY_S == window.start_s and 0 <= now - began < window.length_s)
    assert (began is None) == ((now - window.start_s) % DAY_S >= window.length_s)


def test_the_regions_own_demand_counts_most_and_what_others_watch_a_tenth() -> None:
    demand = {"eu": {bucket_of(A): 100.0, bucket_of(B): 300.0}, "us": {bucket_of(C): 5_000.0}}
    lists = [[*objects(A), *objects(B), *objects(C), Hot("site/x", 1)]]
    assert top_videos("eu", demand, lists, 10) == [C, B, A]
    assert top_videos("us", demand, lists, 2) == [C, B]
    assert top_videos("ap", {}, lists, 10) == []


def test_demand_halves_in_a_day() -> None:
    assert aged({1: 100.0, 2: 1.5}, DAY_S) == {1: 50.0}


def test_edges_fetch_what_they_lack_within_their_bytes_from_a_shield_else_from_who_has_it() -> None:
    demand = {"eu": {bucket_of(A): 9.0, bucket_of(B): 5.0}}
    lists = {"fra-1": objects(A, 1), "iad-1": objects(A), "shield-1": [*objects(A, 2), *objects(B, 1)]}
    owned = {"eu": ("fra-1",) * BUCKETS, "us": ("iad-1",) * BUCKETS, "ap": ("away",) * BUCKETS}
    eu, us = plan_fills(demand, lists, owned, ["shield-1"], 10, {"fra-1": 1000, "iad-1": 1000})
    assert (eu.region, eu.edge, us.region, us.edge) == ("eu", "fra-1", "us", "iad-1")
    second, third = objects(A)[1:]
    assert eu.objects == ((Wanted(second.key), 100), (Wanted(third.key, ("iad-1",)), 100), (Wanted(objects(B)[0].key), 100))
    assert us.objects == ((Wanted(objects(B)[0].key), 100),)
    (tight,) = plan_fills(demand, lists, owned, ["shield-1"], 1, {"fra-1": 150})
    assert tight.objects == ((Wanted(second.key), 100),)


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(VIDEOS), st.integers(0, 5)), max_size=20), min_size=3, max_size=3),
    st.dictionaries(st.sampled_from(["eu", "us"]), st.lists(st.floats(0, 1e9), min_size=6, max_size=6)),
    st.integers(0, 2000),
    st.lists(st.sampled_from(["a", "b"]), min_size=2, max_size=2),
)
def test_no_edge_gets_more_than_its_bytes_nor_an_object_twice_nor_one_that_it_has(
    held: list[list[tuple[str, int]]], demands: dict[str, list[float]], left: int, owning: list[str]
) -> None:
    lists = {name: [objects(video, n + 1, 70)[n] for video, n in one] for name, one in zip("abs", held, strict=True)}
    demand = {region: {bucket_of(v): size for v, size in zip(VIDEOS, sizes, strict=True)} for region, sizes in demands.items()}
    owned = {region: (edge,) * BUCKETS for region, edge in zip(("eu", "us"), owning, strict=True)}
    fills = plan_fills(demand, lists, owned, ["s"], 4, {"a": left, "b": left})
    for edge in "ab":
        keys = [one.key for fill in fills if fill.edge == edge for one, _ in fill.objects]
        assert len(set(keys)) == len(keys)
        assert not {entry.key for entry in lists[edge]} & set(keys)
        assert sum(fill.size_bytes for fill in fills if fill.edge == edge) <= left
