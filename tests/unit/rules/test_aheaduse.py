"""How much of what was fetched ahead is used."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.aheaduse import AheadUse, Why

EVENTS = st.lists(st.tuples(st.sampled_from(("begins", "ends", "fails", "asked")), st.integers(0, 3)), max_size=60)


def measured() -> tuple[AheadUse, Counter[Why], Counter[Why]]:
    fetched, used = Counter[Why](), Counter[Why]()
    return AheadUse(lambda why, n: fetched.update({why: n}), lambda why, n: used.update({why: n})), fetched, used


def test_an_object_counts_as_used_once_also_when_it_was_asked_for_on_its_way() -> None:
    ahead, fetched, used = measured()
    ahead.begins("a", Why.PREFETCH)
    assert not ahead.asked("a")
    ahead.ends("a", 100)
    assert (fetched[Why.PREFETCH], used[Why.PREFETCH], "a" in ahead.unused) == (100, 100, False)
    ahead.begins("b", Why.PREPOSITION)
    ahead.ends("b", 7)
    assert used[Why.PREPOSITION] == 0
    assert ahead.asked("b")
    assert not ahead.asked("b")
    assert used[Why.PREPOSITION] == 7
    ahead.begins("c", Why.ORDER)
    ahead.ends("c", None)
    assert not ahead.unused
    assert not fetched[Why.ORDER]


@given(EVENTS)
def test_never_more_is_used_than_was_fetched(events: list[tuple[str, int]]) -> None:
    ahead, fetched, used = measured()
    for event, n in events:
        match event:
            case "begins":
                ahead.begins(str(n), Why.PREFETCH)
            case "ends" | "fails":
                ahead.ends(str(n), n + 1 if event == "ends" else None)
            case _:
                ahead.asked(str(n))
        assert used[Why.PREFETCH] <= fetched[Why.PREFETCH]
