"""A node's purges: kept before they count, seen by every worker at once, whole after any crash."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.purges import Purges
from headwater.rules.purging import PurgeKind, PurgeRecord

LOG = structlog.get_logger().bind()
KEY = "site/a/b"
HELD = Metadata(KEY, 200, (("Cache-Control", "max-age=60"), ("Cache-Tag", "shop")), 3, 0.0, 0.0)


def record(sequence: int, kind: PurgeKind = PurgeKind.OBJECT, target: str = KEY, *, soft: bool = False) -> PurgeRecord:
    return PurgeRecord(sequence, kind, target, soft, 0.0)


def purges(folder: Path, at_most: int = 100) -> Purges:
    made = Purges(folder, LOG, at_most=at_most)
    made.start()
    return made


def test_a_purge_is_seen_by_the_other_workers_at_their_next_look_up(tmp_path: Path) -> None:
    one, other = purges(tmp_path), purges(tmp_path)
    assert other.judge(HELD) is HELD
    assert one.take([record(5)]) == 5
    assert other.judge(HELD) is None
    after = replace(HELD, accounted=other.sequence)
    assert other.judge(after) is after
    other.take([record(6, PurgeKind.TAG, "shop")])
    assert one.judge(after) is None


def test_purges_hold_after_a_restart_and_what_is_known_is_not_written_twice(tmp_path: Path) -> None:
    first = purges(tmp_path)
    first.take([record(1, PurgeKind.PREFIX, "site/a"), record(2, target="site/c")])
    size = (tmp_path / "log").stat().st_size
    assert first.take([record(1), record(2)]) == 2
    assert (tmp_path / "log").stat().st_size == size
    (tmp_path / "state").unlink()  # as after a power cut
    again = purges(tmp_path)
    assert again.sequence == 2
    assert again.judge(HELD) is None


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_log_cut_anywhere_keeps_what_was_whole_and_goes_on(tmp_path: Path, cut: int) -> None:
    first = purges(tmp_path)
    first.take([record(1)])
    whole = (tmp_path / "log").stat().st_size
    first.take([record(2)])
    os.truncate(tmp_path / "log", (tmp_path / "log").stat().st_size - cut)
    again = purges(tmp_path)
    assert again.sequence == 1
    assert (tmp_path / "log").stat().st_size == whole
    again.take([record(3)])
    assert purges(tmp_path).sequence == 3


def test_a_log_that_does_not_take_a_purge_does_not_acknowledge_it_and_purges_all_the_same(tmp_path: Path) -> None:
    held = purges(tmp_path)
    (tmp_path / "log").mkdir()
    with pytest.raises(OSError, match="log"):
        held.take([record(1)])
    assert held.judge(HELD) is None


def test_a_purge_that_the_log_did_not_take_is_not_acknowledged_when_it_comes_again(tmp_path: Path) -> None:
    held, other = purges(tmp_path), purges(tmp_path)
    (tmp_path / "log").mkdir()
    for _ in range(2):
        with pytest.raises(OSError, match="log"):
            held.take([record(1)])
    assert held.kept == 0
    with pytest.raises(OSError, match="log"):
        held.take([record(2, target="site/c")])
    (tmp_path / "log").rmdir()
    assert held.take([record(2, target="site/c")]) == 2, "with what the log did not take before"
    assert other.judge(HELD) is None
    assert purges(tmp_path).judge(HELD) is None


def test_a_purge_that_the_log_did_not_take_holds_when_another_worker_rewrites_the_log(tmp_path: Path) -> None:
    held, other = purges(tmp_path, at_most=10), purges(tmp_path, at_most=10)
    (tmp_path / "log").mkdir()
    with pytest.raises(OSError, match="log"):
        held.take([record(50, target="site/late")])
    (tmp_path / "log").rmdir()
    for number in range(1, 20):
        other.take([record(number, target=f"site/{number}")])
    assert held.judge(replace(HELD, key="site/late", accounted=49)) is None


def test_the_log_is_bounded_and_folding_is_seen_by_the_other_workers(tmp_path: Path) -> None:
    one, other = purges(tmp_path, at_most=10), purges(tmp_path, at_most=10)
    for number in range(1, 200):
        one.take([record(number, target=f"site/{number}")])
    assert (tmp_path / "log").read_bytes().count(b"\n") <= 12
    assert other.sequence == 199
    old, newer = replace(HELD, key="site/other", accounted=1), replace(HELD, key="site/other", accounted=198)
    assert other.judge(old) is None  # more than was asked for, never less
    assert other.judge(newer) is not None
    assert purges(tmp_path).judge(old) is None


def test_a_soft_purge_ends_the_lifetime_at_its_moment(tmp_path: Path) -> None:
    held = purges(tmp_path)
    held.take([record(1, soft=True)])
    fresh = replace(HELD, request_time=2e9, response_time=2e9)
    judged = held.judge(fresh)
    assert judged is not None
    assert fresh.lifetime(0).fresh_s == 60
    assert judged.lifetime(0).fresh_s == 0
    assert Metadata.from_json(judged.to_json()) == judged
    confirmed = judged.confirmed((), 2e9, 2e9)
    assert held.judge(confirmed) is confirmed
    assert confirmed.lifetime(0).fresh_s == 60
