"""What is read from playlists, Cache-Status and /metrics."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.cachesteps import CacheStep, cache_steps
from loadtest.failures import Cause, RequestFailed
from loadtest.nodemetrics import NodeCounts, counts_of, tier_counts
from loadtest.playlists import read_master, read_media, segment_at

BASE = "http://v3fa.cdn.test/GRANT/videos/x/master.m3u8"
MASTER = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="sound",DEFAULT=YES,URI="aac/128k/playlist.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=3628000,CODECS="avc1.64001f,mp4a.40.2",AUDIO="aac"
h264/720p/playlist.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1028000,CODECS="avc1.64001e,mp4a.40.2",AUDIO="aac"
h264/360p/playlist.m3u8
"""
MEDIA = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4.0,
segment_00000.m4s
#EXTINF:2.5,
segment_00001.m4s
#EXT-X-ENDLIST
"""


def test_variants_are_ordered_by_bit_rate_and_keep_the_grant() -> None:
    low, high = read_master(MASTER, BASE)
    assert (low.name, low.bandwidth_bps, high.name) == ("h264/360p", 1028000, "h264/720p")
    assert low.url == "http://v3fa.cdn.test/GRANT/videos/x/h264/360p/playlist.m3u8"
    assert low.audio_url == "http://v3fa.cdn.test/GRANT/videos/x/aac/128k/playlist.m3u8"


def test_segments_have_their_header_and_their_place_in_time() -> None:
    first, second = read_media(MEDIA, "http://h/g/videos/x/h264/720p/playlist.m3u8")
    assert first.init_url == second.init_url == "http://h/g/videos/x/h264/720p/init.mp4"
    assert (second.url, second.start_s, second.duration_s) == ("http://h/g/videos/x/h264/720p/segment_00001.m4s", 4.0, 2.5)
    assert [segment_at((first, second), moment) for moment in (0, 3.99, 4.0, 6.0, 99)] == [0, 0, 1, 1, 1]


def test_a_media_playlist_alone_is_one_rung() -> None:
    (rung,) = read_master(MEDIA, "http://h/videos/x/h264/720p/playlist.m3u8")
    assert (rung.url, rung.audio_url) == ("http://h/videos/x/h264/720p/playlist.m3u8", None)


@pytest.mark.parametrize("text", ["", "<html>", "#EXTM3U\n", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=x\na\n", '{"a": 1}'])
def test_what_is_no_playlist_has_a_named_cause(text: str) -> None:
    with pytest.raises(RequestFailed) as failed:
        read_master(text, BASE)
    assert failed.value.cause is Cause.NOT_A_PLAYLIST


@given(st.text() | st.lists(st.sampled_from(MASTER.splitlines() + MEDIA.splitlines())).map("\n".join).map("#EXTM3U\n".__add__))
def test_any_text_is_a_playlist_or_a_named_failure(text: str) -> None:
    for read in (read_master, read_media):
        with contextlib.suppress(RequestFailed):
            assert read(text, BASE)


@pytest.mark.parametrize(
    ("field", "steps"),
    [
        (None, ()),
        ("fra-1; hit; ttl=30", (CacheStep("fra-1", True, False),)),
        (
            "shield-1; fwd=uri-miss; fwd-status=200; stored, fra-1; fwd=uri-miss; collapsed",
            (CacheStep("fra-1", False, True), CacheStep("shield-1", False, False)),
        ),
        ('"a, b; hit"; fwd=miss; detail="x, y", e;hit', (CacheStep("e", True, False), CacheStep("a, b; hit", False, False))),
    ],
)
def test_cache_status_is_read_from_the_viewers_side(field: str | None, steps: tuple[CacheStep, ...]) -> None:
    assert cache_steps(field) == steps


def test_counters_are_compared_before_and_after_even_when_a_node_started_again() -> None:
    def counts(hit: int, miss: int) -> str:
        return (
            "# TYPE headwater_cache_requests_total counter\n"
            f'headwater_cache_requests_total{{outcome="hit",status="2xx"}} {hit}\n'
            f'headwater_cache_requests_total{{outcome="miss",status="2xx"}} {miss}\n'
        )

    before = NodeCounts({"a": counts_of(counts(10, 5)), "b": counts_of(counts(100, 100)), "gone": counts_of(counts(1, 1))})
    after = NodeCounts({"a": counts_of(counts(13, 6)), "b": counts_of(counts(2, 0))})
    tier = tier_counts(before, after, {"a": "edge", "b": "edge", "gone": "edge", "s": "shield"}, "edge")
    assert (tier.requests, tier.by_outcome, tier.silent) == (6, {"hit": 5, "miss": 1}, ("gone",))
    assert tier.hit_ratio == 5 / 6
