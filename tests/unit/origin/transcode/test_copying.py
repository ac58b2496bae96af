"""What pictures say together, whatever they are."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from origin.transcode.media.avc import Sequence
from origin.transcode.media.copying import Picture, coding_facts

SEQUENCE = Sequence(100, 30, 1, 8, 640, 360, progressive=True)
TICK = Fraction(1, 25)


@given(st.lists(st.builds(Picture, at=st.integers(-100, 5000), key=st.booleans(), size=st.integers(0, 2**20)), max_size=60))
def test_any_pictures_give_facts_and_a_period_only_of_keyframes(pictures: list[Picture]) -> None:
    facts = coding_facts(pictures, TICK, SEQUENCE, edited=False, read=True)
    assert (facts is None) == (not pictures)
    if facts is None:
        return
    assert facts.mean_bps <= facts.peak_bps
    if facts.key_period is not None:
        assert all(pictures[place].key for place in range(0, len(pictures), facts.key_period))
    if facts.closed:
        keys = [place for place, picture in enumerate(pictures) if picture.key]
        assert all(max(p.at for p in pictures[keys[0] : key]) < pictures[key].at for key in keys[1:])


def test_even_pictures_with_a_keyframe_each_second() -> None:
    pictures = [Picture(place, place % 25 == 0, 1000) for place in range(250)]
    facts = coding_facts(pictures, TICK, SEQUENCE, edited=False, read=True)
    assert facts is not None
    assert (facts.step, facts.key_period, facts.closed, facts.reordered) == (TICK, 25, True, 0)
    assert facts.peak_bps == 200_803  # 1000 bytes a picture; the mean counts to the last picture's start
