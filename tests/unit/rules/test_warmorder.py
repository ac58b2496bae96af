"""Orders to fetch ahead: what they say, what is refused, and how reports add up."""

from __future__ import annotations

import pytest

from headwater.rules.warmorder import (
    OBJECTS_AT_ONCE,
    BadOrder,
    Wanted,
    WarmOrder,
    WarmOutcome,
    WarmReport,
    in_orders,
    order_from,
    report_from,
)


def test_an_order_survives_its_json() -> None:
    order = WarmOrder((Wanted("video/videos/a", ("fra-1",)), Wanted("video/videos/b")), 8, 5e6)
    assert order_from(order.members()) == order


@pytest.mark.parametrize(
    "members",
    [
        None,
        {},
        {"objects": "a"},
        {"objects": [{"key": "a"}]},
        {"objects": [{"key": "/a/b"}]},
        {"objects": [{"key": "a/b", "from": ["x"] * 9}]},
        {"objects": [{"key": "a/b", "from": [3]}]},
        {"objects": [], "concurrency": 65},
        {"objects": [], "concurrency": True},
        {"objects": [], "bandwidth_bps": 0},
        {"objects": [{"key": "a/b"}] * (OBJECTS_AT_ONCE + 1)},
    ],
)
def test_an_order_that_means_nothing_is_refused(members: object) -> None:
    with pytest.raises(BadOrder, match=r"expected|each object"):
        order_from(members)


def test_reports_of_the_parts_of_a_node_add_up() -> None:
    first, second = WarmReport(), WarmReport()
    first.note("a/1", WarmOutcome.FETCHED, 100, "fra-1")
    second.note("a/2", WarmOutcome.FETCHED, 50, "fra-1")
    second.note("a/3", WarmOutcome.FAILED, reason="status 404")
    first.add(report_from(second.members()))
    assert first.members() == {
        "fetched": 2,
        "present": 0,
        "failed": 1,
        "bytes": 150,
        "by_parent": {"fra-1": 2},
        "failures": [{"key": "a/3", "reason": "status 404"}],
    }


def test_objects_go_out_in_parts_and_none_is_lost() -> None:
    objects = [Wanted(f"a/{n}") for n in range(7)]
    parts = list(in_orders(objects, 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [one for part in parts for one in part] == objects
