"""What operators may order, and the log that keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from control.caches.purgelog import PurgeLog
from control.caches.purging import order_from
from headwater.rules.purging import PurgeKind
from headwater.runtime.problems import Problem
from headwater.settings.deployment import Deployment

LOG = structlog.get_logger().bind()
POSTER = "video/videos/abcdefghijA/poster.jpg"
GRANT = "a" * 60 + "." + "b" * 86


@pytest.mark.parametrize(
    ("members", "target"),
    [
        ({"url": "http://v3fa.cdn.test/videos/abcdefghijA/poster.jpg"}, (PurgeKind.OBJECT, POSTER)),
        ({"url": f"http://127.0.1.1:8080/{GRANT}/videos/abcdefghijA/poster.jpg?x=1"}, (PurgeKind.OBJECT, POSTER)),
        ({"url": "/videos/abcdefghijA/%70oster.jpg"}, (PurgeKind.OBJECT, POSTER)),
        ({"prefix": "/videos/abcdefghijA/h264"}, (PurgeKind.PREFIX, "video/videos/abcdefghijA/h264")),
        ({"prefix": "/"}, (PurgeKind.PREFIX, "video/")),
        ({"tag": "news"}, (PurgeKind.TAG, "news")),
        ({"video": "abcdefghijA", "soft": True}, (PurgeKind.TAG, "abcdefghijA")),
    ],
)
def test_an_order_names_keys_and_tags(deployment: Deployment, members: dict[str, Any], target: tuple[PurgeKind, str]) -> None:
    order = order_from(members, deployment)
    assert order.targets == (target,)
    assert order.soft is members.get("soft", False)


@pytest.mark.parametrize(
    "members",
    [
        [],
        {},
        {"url": ""},
        {"url": 1},
        {"url": "/videos/a", "tag": "b"},
        {"url": "ftp://v3fa.cdn.test/videos/a"},
        {"url": "videos/a"},
        {"url": "/videos/../a"},
        {"url": "http://[::1/videos/a"},
        {"url": "http://other.test/videos/a"},
        {"prefix": "/elsewhere/"},
        {"tag": "two words"},
        {"video": "short"},
        {"tag": "a", "soft": "yes"},
        {"tag": "a", "hard": True},
    ],
)
def test_an_order_that_names_nothing_is_refused_with_what_would_do(deployment: Deployment, members: object) -> None:
    with pytest.raises(Problem, match="purge-invalid"):
        order_from(members, deployment)


def log_in(folder: Path, at_most: int = 100, now: float = 1000.0) -> PurgeLog:
    log = PurgeLog(folder, LOG, at_most=at_most, clock=lambda: now)
    log.start()
    return log


def test_sequences_grow_over_restarts_and_lost_folders(tmp_path: Path) -> None:
    first = log_in(tmp_path)
    one, two = first.append([(PurgeKind.TAG, "a"), (PurgeKind.TAG, "b")], soft=False)
    assert (one.sequence, two.sequence, first.before(two), first.before(one)) == (1000, 1001, 1000, 0)
    with (tmp_path / "purges.log").open("ab") as file:
        file.write(b"0000 torn")
    again = log_in(tmp_path)
    (three,) = again.append([(PurgeKind.TAG, "c")], soft=True)
    assert three.sequence == 1002
    assert [record.target for record in log_in(tmp_path).after(1000)] == ["b", "c"]
    assert log_in(tmp_path / "lost", now=2000.0).append([(PurgeKind.TAG, "d")], soft=False)[0].sequence == 2000


def test_a_node_that_missed_more_than_the_log_keeps_purges_everything_before_it(tmp_path: Path) -> None:
    log = log_in(tmp_path, at_most=5)
    for number in range(20):
        log.append([(PurgeKind.TAG, f"t{number}")], soft=False)
    for one in (log, log_in(tmp_path, at_most=5)):
        missed = one.after(1001)
        assert missed[0].kind is PurgeKind.EVERYTHING
        assert [record.target for record in missed[-5:]] == [f"t{number}" for number in range(15, 20)]
        assert all(record.kind is PurgeKind.TAG for record in one.after(missed[0].sequence))
        assert one.before(missed[1]) == missed[0].sequence
