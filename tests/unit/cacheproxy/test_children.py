"""What a shield sees of the edges that ask it."""

from __future__ import annotations

from headwater.cacheproxy.front.children import WINDOW_S, Children


def test_a_child_that_leaves_its_answers_is_told_of_while_the_others_take_theirs() -> None:
    now = [0.0]
    children = Children(lambda: now[0])
    for _ in range(40):
        children.answered("fra-1", left=True)
        children.answered("iad-1", left=False)
    assert children.troubles() == {"fra-1": "it left 40 of the 40 answers to it unread of late"}
    now[0] += WINDOW_S
    assert list(children.troubles()) == ["fra-1"]
    now[0] += WINDOW_S
    assert children.troubles() == {}


def test_children_that_all_leave_say_something_of_this_node_and_not_of_them() -> None:
    children = Children()
    for child in ("fra-1", "iad-1", "sin-1") * 40:
        children.answered(child, left=True)
    assert children.troubles() == {}
