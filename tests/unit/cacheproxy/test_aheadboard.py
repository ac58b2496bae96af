"""What several workers fetched ahead: it counts as used once, whichever of them answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from headwater.cacheproxy.store.aheadboard import AheadBoard
from headwater.rules.aheaduse import AheadUse, Told, Why

KEY = "video/videos/AAAAAAAAAAA/h264/720p/segment_00001.m4s"


class Node:
    """Two workers of one node, as two processes map one file."""

    def __init__(self, folder: Path) -> None:
        self.fetched: Counter[Why] = Counter()
        self.used: Counter[Why] = Counter()
        self.first, self.second = (
            AheadUse(self._count(self.fetched), self._count(self.used), AheadBoard(folder / "ahead")) for _ in range(2)
        )

    @staticmethod
    def _count(counter: Counter[Why]) -> Told:
        return lambda why, size_bytes: counter.update({why: size_bytes})


def test_what_one_worker_fetched_and_another_serves_is_used_once(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.first.begins(KEY, Why.PREFETCH)
    node.first.ends(KEY, 700)
    assert node.second.asked(KEY)
    assert not node.first.asked(KEY)
    assert not node.second.asked(KEY)
    assert node.fetched == node.used == {Why.PREFETCH: 700}


def test_a_worker_that_hands_an_object_to_another_one_leaves_the_use_to_it(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.first.begins(KEY, Why.ORDER)
    node.first.ends(KEY, 700)
    assert not node.second.asked(KEY, for_worker=True)
    assert node.first.asked(KEY)
    assert node.used == {Why.ORDER: 700}


def test_what_nobody_fetched_ahead_is_no_use(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert not node.first.asked(KEY)
    assert node.used == {}
