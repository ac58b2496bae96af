"""Which rungs a picture gets."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.settings.origin import Rung, Transcode
from origin.transcode.encoding.ladder import in_publishing_order, ladder_for, lowest_useful

LADDER = Transcode().ladder
sides = st.integers(16, 8192)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), ["426x240", "640x360", "854x480", "1280x720", "1920x1080"]),
        ((1280, 720), ["426x240", "640x360", "854x480", "1280x720"]),
        ((720, 1280), ["240x426", "360x640", "480x854", "720x1280"]),
        ((768, 432), ["426x240", "640x360", "768x432"]),  # a rung of its own: 432 lines are worth more than 360
        ((800, 332), ["578x240", "800x332"]),
        ((854, 480), ["428x240", "640x360", "854x480"]),
        ((3840, 2160), ["426x240", "640x360", "854x480", "1280x720", "1920x1080"]),
        ((641, 361), ["426x240", "640x360"]),
        ((97, 55), ["96x54"]),
        ((160, 160), ["160x160"]),
    ],
)
def test_the_ladder_of_a_size(size: tuple[int, int], expected: list[str]) -> None:
    assert [f"{rung.width}x{rung.height}" for rung in ladder_for(*size, LADDER)] == expected


@given(sides, sides, st.lists(st.integers(72, 1080).map(lambda half: 2 * half), min_size=1, max_size=6, unique=True))
def test_no_rung_is_larger_than_the_source_or_odd_or_out_of_shape(width: int, height: int, heights: list[int]) -> None:
    rungs = ladder_for(width, height, [Rung(height=side, max_bitrate_kbps=side * 3) for side in heights])
    assert rungs
    assert len({rung.name for rung in rungs}) == len(rungs)
    for rung in rungs:
        assert rung.width <= width
        assert rung.height <= height
        assert rung.width % 2 == rung.height % 2 == 0
        long, short = max(rung.width, rung.height), min(rung.width, rung.height)
        # Sizes are whole pairs of pixels, of the source too.
        assert (
            abs(Fraction(max(width, height) * short, min(width, height)) - long)
            <= 2 * max(width, height) / min(width, height) + 2
        )
    assert [rung.short_side for rung in rungs] == sorted(rung.short_side for rung in rungs)


def test_the_lowest_useful_rung_is_published_first_then_upwards_then_the_small_ones() -> None:
    rungs = ladder_for(1280, 720, LADDER)
    assert [rung.name for rung in in_publishing_order(rungs, 360)] == ["360p", "480p", "720p", "240p"]


def test_a_small_picture_publishes_its_largest_rung_first() -> None:
    assert lowest_useful(ladder_for(426, 240, LADDER), 360).name == "240p"
