"""Byte hit ratios of our policy and of others on the same traces.

    pip install libcachesim        # GPL: for this comparison only, no part of Headwater imports it
    python -m bench.eviction [requests per trace] [--seed 11]
    python -m bench.eviction edge.log trace.csv      # recorded traffic instead: see recorded.py

LRB learns from batches of 131,072 examples (a constant of libcachesim's): with fewer than LRB_LEARNS_FROM requests it would be
LRU under another name and is left out. Ask for 500,000, and have ten minutes a trace.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.eviction.recorded import UnreadableTrace, recorded
from bench.eviction.traces import TRACES, WARM_UP, Request, Trace
from headwater.rules.eviction import Ranking

SIMPLE: Final = ("LRU", "S3FIFO", "Sieve", "WTinyLFU")
OTHERS: Final = ("LRB", "Belady")
SHARES: Final = (0.03, 0.15)  # the store's budget as a share of all bytes that the trace names
SEED: Final = 7
LRB_LEARNS_FROM: Final = 400_000  # requests of a trace
_NEVER: Final = 2**62


def byte_hit_ratio(requests: list[Request], access: Callable[[int, int, int], bool]) -> float:
    """`access(index, object, bytes)` is True for a hit. The warm-up is not counted."""
    hit = asked = 0
    first = int(len(requests) * WARM_UP)
    for index, (number, size, _, _) in enumerate(requests):
        was_hit = access(index, number, size)
        if index >= first:
            asked += size
            hit += size * was_hit
    return hit / asked


def ours(requests: list[Request], budget: int) -> float:
    ranking: Ranking[int] = Ranking(budget)

    def access(_: int, number: int, size: int) -> bool:
        if ranking.touch(number):
            return True
        if size <= budget:
            while ranking.used + size > budget:
                victim = ranking.victim()
                assert victim is not None
                ranking.remove(victim)
            ranking.add(number, size)
        return False

    return byte_hit_ratio(requests, access)


def theirs(name: str, requests: list[Request], budget: int) -> float | None:
    """None when libcachesim cannot run the policy here."""
    if name == "LRB" and len(requests) < LRB_LEARNS_FROM:
        return None
    import libcachesim

    following = _next_uses(requests)
    request = libcachesim.Request()
    try:
        cache: Any = getattr(libcachesim, name)(cache_size=budget, hashpower=18)
    except (AttributeError, ImportError, RuntimeError, ValueError):
        return None

    def access(index: int, number: int, size: int) -> bool:
        request.obj_id, request.obj_size, request.clock_time = number, size, index
        request.next_access_vtime = following[index]
        return bool(cache.get(request))

    return byte_hit_ratio(requests, access)


def _next_uses(requests: list[Request]) -> list[int]:
    following, seen = [_NEVER] * len(requests), dict[int, int]()
    for index in range(len(requests) - 1, -1, -1):
        following[index] = seen.get(requests[index][0], _NEVER)
        seen[requests[index][0]] = index
    return following


def main(arguments: Sequence[str]) -> int:
    """How often ours was behind the best of the simple ones."""
    parser = argparse.ArgumentParser(prog="python -m bench.eviction")
    parser.add_argument("what", nargs="*", help="recordings, and how many requests of each trace (100000)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the made-up traces")
    asked = parser.parse_args(arguments)
    files = [Path(argument) for argument in asked.what if not argument.isdecimal()]
    count = next((int(argument) for argument in asked.what if argument.isdecimal()), 100_000)
    traces = [recorded(file, count) for file in files] if files else [make(count, asked.seed) for make in TRACES]
    print(f"| trace | budget | ours | {' | '.join((*SIMPLE, *OTHERS))} | ours / best simple |")
    print("|---|---|---" + "|---" * (len(SIMPLE) + len(OTHERS)) + "|---|")
    return sum(_compare(trace, share) for trace in traces for share in SHARES)


def _compare(trace: Trace, share: float) -> bool:
    """Prints a row; whether ours was behind."""
    budget = int(trace.footprint_bytes * share)
    mine = ours(trace.requests, budget)
    others = [theirs(name, trace.requests, budget) for name in (*SIMPLE, *OTHERS)]
    best = max(ratio for ratio in others[: len(SIMPLE)] if ratio is not None)
    cells = ["-" if ratio is None else f"{ratio:.3f}" for ratio in others]
    print(f"| {trace.name} | {share:.0%} | **{mine:.3f}** | {' | '.join(cells)} | {mine / best:.2f} |", flush=True)
    return mine < best


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (UnreadableTrace, OSError) as error:
        sys.exit(str(error))
