"""The latest log lines of a process, for a reader elsewhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater.runtime.recentlines import LOOK_BACK_CHARS, RecentLines

CHUNKS = st.lists(st.integers(1, 5), max_size=30)  # lines in each


def lines_of(text: str) -> list[str]:
    return text.splitlines()


@given(CHUNKS, st.integers(0, 10))
def test_a_reader_gets_every_line_once_in_order_or_is_told_how_many_it_lost(chunks: list[int], reads_after: int) -> None:
    recent = RecentLines(kept_chars=60)
    read: list[str] = []
    number, made, lost = 0, 0, 0
    for place, count in enumerate(chunks):
        recent.add("".join(f"line {made + n}\n" for n in range(count)))
        made += count
        if place % (reads_after + 1) == 0:
            piece = recent.after(number)
            assert piece.next == number + piece.lost + len(lines_of(piece.lines))
            read += lines_of(piece.lines)
            number, lost = piece.next, lost + piece.lost
    piece = recent.after(number)
    read += lines_of(piece.lines)
    assert len(read) + lost + piece.lost == made
    assert read == sorted(read, key=lambda line: int(line.split()[1]))
    assert len(set(read)) == len(read)


def test_a_reader_that_stopped_within_a_chunk_goes_on_within_it() -> None:
    recent = RecentLines()
    recent.add("a\nb\nc\n")
    assert recent.after(1).lines == "b\nc\n"
    assert recent.after(3).lines == ""


def test_a_new_reader_gets_whole_lines_of_the_end() -> None:
    recent = RecentLines()
    for n in range(100):
        recent.add(f"{n:05} {'x' * 2000}\n")
    piece = recent.after(None)
    assert len(piece.lines) <= LOOK_BACK_CHARS
    assert piece.next == 100
    assert all(len(line) == 2006 for line in lines_of(piece.lines))
