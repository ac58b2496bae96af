"""A secret's file is made once, whole, and for its owner alone."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headwater.runtime.wholefiles import make_once


def test_of_many_who_start_at_once_one_makes_the_file_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "zone.pem"
    with ThreadPoolExecutor(8) as starters:
        list(starters.map(lambda number: make_once(file, b"%d" % number * 1000), range(8)))
    content = file.read_bytes()
    assert len(content) == 1000
    assert len(set(content)) == 1
    assert os.listdir(file.parent) == ["zone.pem"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_leaves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        make_once(tmp_path / "secret", b"x")
    assert os.listdir(tmp_path) == []
