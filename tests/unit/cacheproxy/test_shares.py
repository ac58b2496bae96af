"""Keys and files are divided between workers without a word between them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import structlog
from hypothesis import given
from hypothesis import strategies as st

from headwater.cacheproxy.store.diskindex import BLOCK_BYTES
from headwater.cacheproxy.store.diskstore import DiskStore
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.shares import STRETCH, Share, file_name
from headwater.rules.slices import Version, slice_key, unknown_slice_key
from headwater.rules.varying import variant_key
from headwater.settings.cache import CacheSettings

LOG = structlog.get_logger().bind()
KEYS = [f"video/videos/{n}/segment.m4s" for n in range(60)]


def _metadata(key: str, size: int = 4) -> Metadata:
    return Metadata(key, 200, (("ETag", '"v1"'),), size, 0.0, 0.0)


@given(st.text(max_size=60), st.integers(1, 16))
def test_every_key_has_exactly_one_owner_and_its_file_tells_it(key: str, workers: int) -> None:
    owners = [index for index in range(workers) if Share(index, workers).owns(key)]
    assert len(owners) == 1
    assert owners == [index for index in range(workers) if Share(index, workers).owns_file(file_name(key))]


@given(st.text(max_size=40), st.text("0123456789abcdef", min_size=16, max_size=16), st.text(max_size=10), st.integers(1, 16))
def test_variants_belong_to_the_owner_of_their_url(key: str, generation: str, language: str, workers: int) -> None:
    variant = variant_key(f"{key}@{generation}", ("accept-language",), (("Accept-Language", language),))
    share = Share(0, workers)
    assert share.owner(variant) == share.owner(key)
    assert file_name(variant) != file_name(key)


@given(st.text(max_size=40), st.integers(1, 8), st.integers(0, 200))
def test_slices_belong_together_in_stretches_of_which_the_first_is_the_urls(key: str, workers: int, index: int) -> None:
    share, version = Share(0, workers), Version('"v1"', 10**9)
    owner = share.owner(slice_key(key, version, 1000, index))
    assert owner == share.owner(slice_key(key, version, 1000, index // STRETCH * STRETCH))
    assert owner == share.owner(unknown_slice_key(key, 1000, index * 1000 + 5))
    assert index >= STRETCH or owner == share.owner(key)


def test_owners_are_spread_evenly() -> None:
    counts = Counter(Share(0, 3).owner(f"/videos/{n}") for n in range(3000))
    assert all(900 < counts[index] < 1100 for index in range(3))


def test_budgets_of_all_workers_are_the_nodes_in_sum() -> None:
    settings = CacheSettings(ram="1000 B", disk="10001 B")
    parts = [Share(index, 3).of_budget(settings) for index in range(3)]
    assert sum(part.ram for part in parts) <= 1000
    assert sum(part.disk for part in parts) <= 10_001
    assert Share().of_budget(settings) == settings


def test_a_worker_writes_its_own_objects_and_reads_everybodys(tmp_path: Path) -> None:
    disks = [DiskStore(tmp_path, 10**6, LOG, Share(index, 2)) for index in range(2)]
    for disk in disks:
        disk.start()
    for key in KEYS:
        assert [disk.write(_metadata(key), [b"body"]) for disk in disks].count(True) == 1
    for disk in disks:
        for key in KEYS:
            assert disk.may_hold(key)
            found = disk.open(key)
            assert found is not None
            assert found.read_all() == b"body"
            found.close()


def test_a_changed_number_of_workers_divides_the_same_files_anew(tmp_path: Path) -> None:
    before = DiskStore(tmp_path, 10**6, LOG)
    before.start()
    for key in KEYS:
        before.write(_metadata(key), [b"body"])
    disks = [DiskStore(tmp_path, 10**6, LOG, Share(index, 3)) for index in range(3)]
    for disk in disks:
        disk.start()
    counted = [sum(key_is_indexed(disk, key) for disk in disks) for key in KEYS]
    assert counted == [1] * len(KEYS)


def key_is_indexed(disk: DiskStore, key: str) -> bool:
    return disk.keeps(key) and disk.may_hold(key)


def test_a_share_keeps_its_own_budget(tmp_path: Path) -> None:
    budget = 6 * BLOCK_BYTES  # five objects, and a sixth being written
    disks = [DiskStore(tmp_path, budget, LOG, Share(index, 2)) for index in range(2)]
    for disk in disks:
        disk.start()
    for key in KEYS:
        for disk in disks:
            disk.write(_metadata(key), [b"body"])
    files = [file for file in (tmp_path / "objects").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 2 * budget
    assert len(files) >= 10


def test_a_replacement_reads_at_once_but_writes_only_after_it_took_over(tmp_path: Path) -> None:
    old, new = DiskStore(tmp_path, 10**6, LOG), DiskStore(tmp_path, 10**6, LOG)
    old.start()
    new.start(keeps=False)
    assert old.write(_metadata("early"), [b"body"])
    found = new.open("early")
    assert found is not None
    found.close()
    assert not new.write(_metadata("new"), [b"body"])
    old.write(_metadata("late"), [b"body"])
    new.take_over()
    assert key_is_indexed(new, "early")
    assert key_is_indexed(new, "late")
    assert new.write(_metadata("new"), [b"body"])
