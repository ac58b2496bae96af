"""Which parts of a video are compared with what was uploaded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from origin.transcode.encoding.quality import sampled_segments


def test_samples_lie_in_the_middle_of_equal_parts() -> None:
    assert sampled_segments(900, 3) == [150, 450, 750]
    assert sampled_segments(1, 3) == [0]
    assert sampled_segments(2, 3) == [0, 1]


@given(st.integers(1, 5000), st.integers(1, 64))
def test_samples_are_segments_that_exist_each_once_and_never_more_than_asked(segments: int, samples: int) -> None:
    chosen = sampled_segments(segments, samples)
    assert 1 <= len(chosen) <= min(samples, segments)
    assert chosen == sorted(set(chosen))
    assert 0 <= chosen[0] <= chosen[-1] < segments
