from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.cacheproxy.store.draft import Draft
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.objectfile import CHECKED_BYTES, Damaged, open_object


def metadata(size: int, key: str = "video/videos/x") -> Metadata:
    return Metadata(key, 200, (("ETag", '"v1"'), ("X-Ünïcode", "ä")), size, 1.5, 2.5)


def write(folder: Path, body: bytes, pieces: int = 1) -> Path:
    path = folder / "object"
    step = max(1, -(-len(body) // pieces))
    draft = Draft(folder)
    for at in range(0, len(body), step):
        draft.append(body[at : at + step])
    end = draft.footer(metadata(len(body)))
    size = draft.complete(end)
    draft.become(str(path), str(folder / "aside"))
    draft.close()
    assert size == path.stat().st_size == len(body) + len(end)
    return path


@pytest.mark.parametrize("size", [0, 1, CHECKED_BYTES - 1, CHECKED_BYTES, CHECKED_BYTES + 1, 3 * CHECKED_BYTES + 17])
def test_an_object_is_read_as_it_was_written(tmp_path: Path, size: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    file = open_object(write(tmp_path, body, 7), "video/videos/x")
    assert file.metadata == metadata(size)
    assert file.read_all() == body
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["object"]


def test_a_file_cut_at_any_byte_has_no_valid_end(tmp_path: Path) -> None:
    path = write(tmp_path, b"x" * 100)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            open_object(path, "video/videos/x")


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=300)
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    folder = tmp_path_factory.mktemp("flip")
    path = write(folder, b"abcdefgh" * 12)
    damaged = bytearray(path.read_bytes())
    damaged[position % len(damaged)] ^= flip
    path.write_bytes(damaged)
    try:
        file = open_object(path, "video/videos/x")
    except Damaged:
        return
    with pytest.raises(Damaged):
        file.read_all()
    file.close()


def test_another_objects_file_is_not_taken(tmp_path: Path) -> None:
    path = write(tmp_path, b"x")
    with pytest.raises(Damaged):
        open_object(path, "video/videos/y")


def test_a_body_of_another_length_leaves_nothing_behind(tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    draft.append(b"1234")
    with pytest.raises(Damaged):
        draft.footer(metadata(5))
    draft.close()
    assert list(tmp_path.iterdir()) == []


def test_what_comes_after_a_drafts_end_reaches_no_other_file(tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    draft.close()
    with (tmp_path / "another").open("wb") as another:  # gets the number that the draft had
        for late in (
            lambda: draft.append(b"x"),
            lambda: draft.read(0, 1),
            lambda: draft.become("o", "a"),
        ):
            with pytest.raises(OSError, match="closed"):
                late()
        assert another.tell() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


def test_a_file_system_without_nameless_files_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.O_TMPFILE")
    file = open_object(write(tmp_path, b"abc" * 1000), "video/videos/x")
    assert file.read_all() == b"abc" * 1000
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["object"]
