"""The objects of a store by how much they would be missed: what a cache that takes over a bucket should have first.

The order is that in which the store itself would let them go, from its end: no request counts anything more for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from headwater.cacheproxy.store.diskstore import DiskStore
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.shares import file_name


def hottest_of(
    ram_keys: Sequence[str], ram_weights: Sequence[float], in_ram: Mapping[str, Metadata], disk: DiskStore, at_most: int
) -> list[Metadata]:
    """At most `at_most` objects, hottest first: memory holds what is used most, so it comes before the disk. Blocks: a file is
    opened for each object that is on disk only."""
    found = [in_ram[ram_keys[slot]] for slot in _heaviest(ram_weights, at_most) if ram_keys[slot] in in_ram]
    seen = {bytes.fromhex(file_name(metadata.key)) for metadata in found}
    found.extend(_of_disk(disk, at_most - len(found), seen))
    return found


def _of_disk(disk: DiskStore, at_most: int, seen: set[bytes]) -> Iterator[Metadata]:
    if at_most <= 0:
        return
    names, weights = disk.index.weighed()
    for slot in _heaviest(weights, at_most + len(seen)):
        if at_most == 0:
            return
        if names[slot] in seen:
            continue
        metadata = disk.metadata_of(names[slot])
        if metadata is not None:
            at_most -= 1
            yield metadata


def _heaviest(weights: Sequence[float], at_most: int) -> list[int]:
    """The places of the largest weights, largest first."""
    return heapq.nlargest(at_most, range(len(weights)), key=weights.__getitem__)
