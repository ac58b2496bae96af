"""Read counts survive a restart and never stop the byte plane."""

from __future__ import annotations

from pathlib import Path

import structlog

from headwater.runtime.metrics import value
from origin.tiers.tracker import AccessTracker

LOG = structlog.get_logger("test")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_counts_are_added_up_in_memory_and_over_restarts(tmp_path: Path) -> None:
    clock = Clock()
    tracker = AccessTracker(tmp_path / "heat.sqlite3", clock, LOG)
    for _ in range(3):
        tracker.record("a")
    assert (await tracker.heats(["a", "b"]))["a"].score == 3
    await tracker.flush()
    again = AccessTracker(tmp_path / "heat.sqlite3", clock, LOG)
    again.record("a")
    again.record("b")
    await again.flush()
    heats = await again.heats(["a", "b", "c"])
    assert {key: heat.score for key, heat in heats.items()} == {"a": 4, "b": 1}
    clock.now += 10
    await again.forget(clock.now - 5)
    assert await again.heats(["a"]) == {}


async def test_a_file_that_cannot_be_written_keeps_the_counts_in_memory(tmp_path: Path) -> None:
    blocker = tmp_path / "folder"
    blocker.write_text("a file where a folder should be")
    tracker = AccessTracker(blocker / "heat.sqlite3", Clock(), LOG)
    before = value("headwater_origin_heat_flushes_total", outcome="failed")
    tracker.record("a")
    await tracker.flush()
    tracker.record("a")
    assert value("headwater_origin_heat_flushes_total", outcome="failed") == before + 1
    blocker.unlink()
    await tracker.flush()
    assert (await tracker.heats(["a"]))["a"].score == 2


async def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "heat.sqlite3"
    file.write_bytes(b"this is no database, however long one looks at it" * 100)
    tracker = AccessTracker(file, Clock(), LOG)
    tracker.record("a")
    await tracker.flush()
    await tracker.flush()
    assert (await tracker.heats(["a"]))["a"].score == 1
    assert (tmp_path / "heat.damaged").exists()
