from __future__ import annotations

import os
from pathlib import Path

import structlog

from headwater.cacheproxy.store.diskindex import BLOCK_BYTES
from headwater.cacheproxy.store.diskstore import DiskStore
from headwater.cacheproxy.store.metadata import Metadata
from headwater.runtime.metrics import value

BODY = b"x" * 8192
OBJECT_BYTES = 3 * BLOCK_BYTES  # with its footer


def store(folder: Path, objects: int) -> DiskStore:
    disk = DiskStore(folder, objects * OBJECT_BYTES, structlog.get_logger().bind())
    disk.start()
    return disk


def put(disk: DiskStore, key: str, body: bytes = BODY) -> bool:
    return disk.write(Metadata(key, 200, (), len(body), 0, 0), [body])


def has(disk: DiskStore, key: str) -> bool:
    file = disk.open(key)
    if file is not None:
        file.close()
    return file is not None


def test_what_is_used_stays_and_what_is_not_goes(tmp_path: Path) -> None:
    disk = store(tmp_path, 3)
    for key in "abc":
        put(disk, key)
    assert has(disk, "a")
    assert has(disk, "c")
    put(disk, "d")
    assert [key for key in "abcd" if has(disk, key)] == ["a", "c", "d"]


def test_the_budget_holds(tmp_path: Path) -> None:
    disk = store(tmp_path, 3)
    for number in range(50):
        put(disk, str(number), os.urandom(number * 100))
    used = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*") if path.is_file())
    assert 0 < used <= 3 * OBJECT_BYTES


def test_an_object_over_the_budget_is_not_written(tmp_path: Path) -> None:
    disk = store(tmp_path, 1)
    put(disk, "small")
    assert not put(disk, "large", b"x" * 20_000)
    assert has(disk, "small")


def test_drafts_of_a_killed_process_are_removed_and_objects_found_again(tmp_path: Path) -> None:
    disk = store(tmp_path, 3)
    put(disk, "a")
    (tmp_path / "drafts" / "0" / "left").write_bytes(b"half")
    disk = store(tmp_path, 3)
    assert has(disk, "a")
    assert [path for path in (tmp_path / "drafts").rglob("*") if path.is_file()] == []


def test_a_smaller_budget_makes_room_at_start(tmp_path: Path) -> None:
    disk = store(tmp_path, 3)
    for key in "abc":
        put(disk, key)
    disk = store(tmp_path, 1)
    assert sum(has(disk, key) for key in "abc") == 1


def test_a_deleted_file_is_a_miss_that_is_counted(tmp_path: Path) -> None:
    disk = store(tmp_path, 3)
    put(disk, "a")
    for path in (tmp_path / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    before = value("headwater_store_disk_troubles_total", trouble="file_missing")
    assert not has(disk, "a")
    assert value("headwater_store_disk_troubles_total", trouble="file_missing") == before + 1
    assert put(disk, "a")


def test_a_disk_that_takes_nothing_is_counted_not_raised(tmp_path: Path) -> None:
    disk = store(tmp_path, 3)
    for folder in ("drafts", "objects"):
        (tmp_path / folder).rename(tmp_path / f"{folder}-gone")
    before = value("headwater_store_disk_troubles_total", trouble="write_failed")
    assert not put(disk, "a")
    assert value("headwater_store_disk_troubles_total", trouble="write_failed") == before + 1


def test_files_under_the_names_of_former_versions_are_removed(tmp_path: Path) -> None:
    put(store(tmp_path, 3), "a")
    former = tmp_path / "objects" / "ab" / ("ab" * 32)
    former.parent.mkdir(exist_ok=True)
    former.write_bytes(b"old")
    assert has(store(tmp_path, 3), "a")
    assert not former.exists()
