"""Bytes by bucket: what a report says, how the processes of a node add up, and what a reader makes of two of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.bucketload import NO_BUCKET, BucketLoad, bucket_of_path, grown, load_from, summed
from headwater.rules.names import bucket_of, parse_video_id

VIDEO = parse_video_id("dQw4w9WgXcQ")
counts = st.dictionaries(st.integers(0, NO_BUCKET), st.integers(0, 2**50), max_size=20)


def load(sent: dict[int, int], since: float = 5.0) -> BucketLoad:
    made = BucketLoad(since)
    for bucket, size_bytes in sent.items():
        made.count(bucket, size_bytes, filled=bucket % 2 == 0 and bucket != NO_BUCKET)
    return made


@given(counts)
def test_a_report_is_read_back_as_it_was_written(sent: dict[int, int]) -> None:
    assert load_from(json.loads(json.dumps(load(sent).members()))) == load(sent)


@given(counts, counts)
def test_the_processes_of_a_node_add_up(one: dict[int, int], other: dict[int, int]) -> None:
    whole = summed([load(one, 1.0), load(other, 2.0)])
    assert whole.since == 2.0
    assert sum(whole.sent_bytes) == sum(one.values()) + sum(other.values())


def test_growth_is_the_difference_while_the_node_counts_on() -> None:
    assert grown(load({1: 10, 2: 5}), load({1: 30, 2: 5}))[:3] == [0, 20, 0]
    assert not any(grown(load({1: 10}), load({1: 30}, since=6.0))), "it began anew: a new beginning, no growth"
    assert not any(grown(None, load({1: 30})))


@pytest.mark.parametrize(
    ("path", "bucket"),
    [
        (f"/videos/{VIDEO}/h264/720p/segment_00001.m4s", bucket_of(VIDEO)),
        (f"/videos/{VIDEO}/master.m3u8", bucket_of(VIDEO)),
        (f"/videos/{VIDEO}", NO_BUCKET),
        ("/videos/short/master.m3u8", NO_BUCKET),
        ("/images/logo.png", NO_BUCKET),
        ("/", NO_BUCKET),
    ],
)
def test_a_path_belongs_to_its_videos_bucket_or_to_none(path: str, bucket: int) -> None:
    assert bucket_of_path(path) == bucket


@pytest.mark.parametrize(
    "members",
    [None, [], {}, {"since": 1, "sent_bytes": {"fff0": 1}, "filled_bytes": {}, "other_bytes": 0}, {"since": "x"}],
)
def test_anything_else_is_no_report(members: object) -> None:
    with pytest.raises(ValueError, match="no load report"):
        load_from(members)
