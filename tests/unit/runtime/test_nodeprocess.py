"""Logs that stay bounded; the rest of a node process is under test in tests/integration/test_lab_up.py."""

from __future__ import annotations

from pathlib import Path

from headwater.runtime.nodeprocess import keep_bounded


def test_a_log_that_outgrew_its_limit_is_moved_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "fra-1.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        keep_bounded(log, limit_bytes=99)
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert (tmp_path / "fra-1.log.1").read_bytes() == b"x" * 100


def test_a_log_within_its_limit_or_not_there_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "fra-1.log"
    keep_bounded(log)
    log.write_bytes(b"x")
    keep_bounded(log, limit_bytes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["fra-1.log"]


def test_a_log_that_cannot_be_moved_aside_is_emptied_all_the_same(tmp_path: Path) -> None:
    """Else a full disk would stay full of it, and the node that writes it would not be started again."""
    log = tmp_path / "fra-1.log"
    log.write_bytes(b"x" * 100)
    (tmp_path / "fra-1.log.1").mkdir()
    keep_bounded(log, limit_bytes=99)
    assert log.read_bytes() == b""
