"""What the store's index costs: memory an object, and time a hit and a miss, from 1,000 to 1,000,000 objects.

python -m bench.storeindex
"""

from __future__ import annotations

import hashlib
import random
import time
import tracemalloc
from pathlib import Path

from headwater.cacheproxy.store.diskindex import DiskIndex

HITS = 200_000


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def name_of(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()[:16]


def filled(count: int) -> DiskIndex:
    index = DiskIndex(count * 100 * 4096)
    for number in range(count):
        index.found(name_of(number), 100)
    return index


def hit_s(index: DiskIndex, count: int) -> float:
    """Seconds a hit; the best of five, as the machine does other things too."""
    draw = random.Random(1)
    names = [name_of(draw.randrange(count)) for _ in range(HITS // 5)]
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for name in names:
            index.touch(name)
        best = min(best, time.perf_counter() - began)
    return best / len(names)


def replace_s(index: DiskIndex, count: int) -> float:
    """Seconds to give one object up and take another in, the index being full."""
    names = [name_of(count + number) for number in range(HITS // 20)]
    began = time.perf_counter()
    for name in names:
        while not index.reserve(100):
            victim = index.give_up()
            assert victim is not None
            index.gone(victim[1])
        index.keep(name, 100, 100)
    return (time.perf_counter() - began) / len(names)


def main() -> None:
    print("| objects | hit, µs | evict and add, µs | resident bytes an object | allocated bytes an object (tracemalloc) |")
    print("|---|---|---|---|---|")
    for count in (1_000, 10_000, 100_000, 1_000_000):
        before = rss_bytes()
        index = filled(count)
        resident = (rss_bytes() - before) / count
        hit, replace = hit_s(index, count), replace_s(index, count)
        del index
        tracemalloc.start()
        index = filled(count)
        allocated = tracemalloc.get_traced_memory()[0] / count
        tracemalloc.stop()
        del index
        print(f"| {count:,} | {hit * 1e6:.2f} | {replace * 1e6:.1f} | {resident:.0f} | {allocated:.0f} |", flush=True)


if __name__ == "__main__":
    main()
