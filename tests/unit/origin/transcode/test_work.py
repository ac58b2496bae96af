"""Outputs that are named by their inputs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from origin.transcode.encoding.plan import timing_for
from origin.transcode.encoding.work import digest_of, made


def test_an_output_is_made_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "file").write_text("content")

    first, second = made(tmp_path / "work", "a", make), made(tmp_path / "work", "a", make)
    assert first == second
    assert (second / "file").read_text() == "content"
    assert len(calls) == 1


def test_a_failed_making_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        made(tmp_path, "a", fail)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_make_the_same_one_wins_and_both_have_it(tmp_path: Path) -> None:
    def inner(folder: Path) -> None:
        (folder / "file").write_text("faster")

    def outer(folder: Path) -> None:
        (folder / "file").write_text("slower")
        made(tmp_path, "a", inner)

    output = made(tmp_path, "a", outer)
    assert (output / "file").read_text() == "faster"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_another_input_has_another_name() -> None:
    timing = timing_for(Fraction(10), Fraction(25), 4.0, 2.0)
    other = timing_for(Fraction(10), Fraction(24), 4.0, 2.0)
    names = {digest_of("encode", "sha", timing), digest_of("encode", "sha", other), digest_of("audio", "sha", timing)}
    assert len(names) == 3
    assert digest_of("encode", "sha", timing) in names
