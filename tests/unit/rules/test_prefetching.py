"""What viewers ask next: as their players say it, as the playlist lists it, as the number tells it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.prefetching import Budget, following, may_begin, next_named, playlist_of, resolved, without_cmcd

RUNG = "/videos/abcdefghijA/h264/360p/"
SEGMENT = f"{RUNG}segment_00042.m4s"
PLAYLIST = '#EXTM3U\n#EXT-X-MAP:URI="init.mp4"\n' + "".join(f"#EXTINF:4,\nsegment_{n:05d}.m4s\n" for n in range(45))


@pytest.mark.parametrize(
    ("query", "header", "named"),
    [
        ("CMCD=" + quote('bl=21300,nor="segment_00043.m4s",sid="6e2f"'), None, "segment_00043.m4s"),
        ("a=1&CMCD=" + quote('nor="..%2F720p%2Fsegment_00043.m4s",su'), None, "../720p/segment_00043.m4s"),
        ("", 'nor="segment_00043.m4s",bl=100', "segment_00043.m4s"),
        ("", "bl=100,mtp=25400", None),
        ("", 'nor="segment_00043.m4s', None),  # no valid dictionary: void as a whole
        ("CMCD=%ff%00", None, None),
        ("", "nor=7", None),
        ("cmcd=nor", None, None),
    ],
)
def test_a_player_names_its_next_object_in_the_query_or_in_a_header(query: str, header: str | None, named: str | None) -> None:
    assert next_named(query, () if header is None else (("CMCD-Request", header),)) == named


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("segment_00043.m4s", f"{RUNG}segment_00043.m4s"),
        ("../720p/segment_00043.m4s", "/videos/abcdefghijA/h264/720p/segment_00043.m4s"),
        (f"/grant{RUNG}segment_00043.m4s", f"{RUNG}segment_00043.m4s"),
        (f"{RUNG}segment_00043.m4s", None),  # without the grant it is another target
        ("../../../abcdefghijE/h264/360p/segment_00000.m4s", None),  # another video
        ("../../../../../etc/passwd", None),
        ("//elsewhere.test/segment_00043.m4s", None),
        ("http://elsewhere.test/x", None),
        ("segment_00043.m4s?x=1", None),
        ("segment_00042.m4s", None),  # what is being asked for already
        ("http://[", None),  # no reference at all
    ],
)
def test_what_a_player_names_must_be_of_the_same_video(named: str, path: str | None) -> None:
    assert resolved(named, f"/grant{SEGMENT}", SEGMENT) == path


def test_without_cmcd_the_segment_number_tells_and_the_playlist_ends_it() -> None:
    names = [f"{RUNG}segment_{n:05d}.m4s" for n in (43, 44, 45)]
    assert following(SEGMENT, 3, None) == tuple(names)
    assert following(SEGMENT, 3, PLAYLIST) == tuple(names[:2])
    assert following(f"{RUNG}segment_00044.m4s", 3, PLAYLIST) == ()
    assert following(f"{RUNG}segment_00099.m4s", 3, PLAYLIST) == ()
    assert following(f"{RUNG}init.mp4", 3, None) == following("/site/segment_00001.m4s", 3, None) == ()
    assert (playlist_of(SEGMENT), playlist_of("/videos/abcdefghijA/master.m3u8")) == (f"{RUNG}playlist.m3u8", None)


def test_a_query_names_the_same_object_whatever_the_player_says_of_itself() -> None:
    said = quote('bl=21300,nor="b"')
    assert without_cmcd(f"a=1&CMCD={said}&b=2") == "a=1&b=2"
    assert without_cmcd(f"CMCD={said}") == ""
    assert without_cmcd("a=CMCD&CMCD2=x&&=") == "a=CMCD&CMCD2=x&&="


@given(st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 5)), max_size=200), st.floats(1e5, 1e9))
def test_a_budget_is_kept_on_average(fetches: list[tuple[int, float]], bandwidth_bps: float) -> None:
    budget, now_s, taken, largest = Budget(bandwidth_bps), 0.0, 0, 0
    for size_bytes, pause_s in fetches:
        now_s += pause_s
        if budget.allows(now_s):
            budget.took(size_bytes, now_s)
            taken, largest = taken + size_bytes, max(largest, size_bytes)
    assert taken * 8 <= bandwidth_bps * (now_s + 2.0) * 1.001 + largest * 8


def test_viewers_keep_half_of_the_connections_and_fetches_ahead_are_few() -> None:
    assert may_begin(31, 3, 64, 4)
    assert not may_begin(32, 3, 64, 4)
    assert not may_begin(0, 4, 64, 4)
