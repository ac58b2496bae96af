"""What the store's index costs: memory an object, and time a hit and a miss, from 1,000 to 1,000,000 objects.

    python -m bench.storeindex --write      # puts the table into docs/eviction.md

Beside a hit stands its floor: the look-up in a plain dictionary of the same names, and one number read from an array at the
place that it gives. What these cost more at a million objects is the processor's caches, and nobody's to save.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import time
import tracemalloc
from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.speed.report import machine, put_into
from headwater.cacheproxy.store.diskindex import DiskIndex

HITS = 200_000
COUNTS: Final = (1_000, 10_000, 100_000, 1_000_000)
NAME: Final = "storeindex"
DOCS: Final = Path(__file__).resolve().parents[1] / "docs" / "eviction.md"


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


def floor_s(count: int) -> float:
    """Seconds for the least that a hit can do: find a slot by its name, read and write a number there."""
    slots = {name_of(number): number for number in range(count)}
    weights = array("d", [0.0]) * count
    draw = random.Random(1)
    names = [name_of(draw.randrange(count)) for _ in range(HITS // 5)]
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for name in names:
            slot = slots.get(name)
            if slot is not None:
                weights[slot] = weights[slot] + 1.0
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
    parser = argparse.ArgumentParser(prog="python -m bench.storeindex")
    parser.add_argument("--write", action="store_true", help="put the table into docs/eviction.md")
    write = parser.parse_args().write
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, `python -m bench.storeindex`, {machine()}, load {os.getloadavg()[0]:.1f}:",
        "",
        "| objects | hit, µs | floor of a hit, µs | evict and add, µs | resident bytes an object | allocated (tracemalloc) |",
        "|---|---|---|---|---|---|",
    ]
    hits: list[tuple[float, float]] = []
    for count in COUNTS:
        before = rss_bytes()
        index = filled(count)
        resident = (rss_bytes() - before) / count
        hit, replace = hit_s(index, count), replace_s(index, count)
        del index
        floor = floor_s(count)
        hits.append((hit, floor))
        tracemalloc.start()
        index = filled(count)
        allocated = tracemalloc.get_traced_memory()[0] / count
        tracemalloc.stop()
        del index
        figures = f"{hit * 1e6:.2f} | {floor * 1e6:.2f} | {replace * 1e6:.1f} | {resident:.0f} | {allocated:.0f}"
        lines.append(f"| {count:,} | {figures} |")
        print(lines[-1], flush=True)
    (first, floor_first), (last, floor_last) = hits[0], hits[-1]
    lines += [
        "",
        f"From {COUNTS[0]:,} to {COUNTS[-1]:,} objects a hit becomes {last / first:.2f} times as dear, its floor"
        f" {floor_last / floor_first:.2f} times; the hit grew by {(last - first) * 1e6:.2f} µs, the floor by"
        f" {(floor_last - floor_first) * 1e6:.2f} µs.",
    ]
    print(lines[-1])
    if write:
        put_into(DOCS, "\n".join([f"<!-- {NAME} -->", *lines, f"<!-- /{NAME} -->"]), NAME)


if __name__ == "__main__":
    main()
