"""Viewer traffic, made up from a seed: the same trace on every machine.

A session picks a video and a rung and asks for its segments one after another, four seconds apart, until the viewer leaves;
sessions overlap, so that their requests mix as they do at an edge. One request is (object id, bytes, group, position).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final

SEGMENT_S: Final = 4.0
RUNG_BYTES: Final = (200_000, 500_000, 1_200_000, 2_500_000)  # of a segment, about: 0.4, 1, 2.4 and 5 Mbit/s
RUNG_SHARE: Final = (15, 30, 35, 20)
SESSIONS_AT_ONCE: Final = 200
WARM_UP: Final = 0.2  # the part of a trace that fills the store and is not counted

Request = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Trace:
    """`requests` in order; `groups` of 0 mean: no group known."""

    name: str
    says: str
    requests: list[Request]

    @property
    def footprint_bytes(self) -> int:
        return sum({request[0]: request[1] for request in self.requests}.values())


class Catalogue:
    """Object ids are given out as they are first asked for; an object's size follows from its id alone."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._ids: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._lengths: dict[int, int] = {}

    def segment(self, video: int, rung: int, number: int) -> Request:
        found = self._ids.get((video, rung, number))
        if found is None:
            size = int(RUNG_BYTES[rung] * self._draw.lognormvariate(0, 0.3))
            found = self._ids[video, rung, number] = (len(self._ids) + 1, size)
        return (*found, video * 8 + rung + 1, number)

    def other(self, number: int, size: int) -> Request:
        found = self._ids.setdefault((-1, 0, number), (len(self._ids) + 1, size))
        return (*found, 0, 0)

    def segments_of(self, video: int) -> int:
        length = self._lengths.get(video)
        if length is None:
            length = self._lengths[video] = max(5, min(450, int(self._draw.lognormvariate(3.2, 0.8))))
        return length


def zipf(draw: random.Random, count: int, exponent: float) -> Callable[[], int]:
    """Draws numbers below `count`, the most popular first."""
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(count)))
    return lambda: draw.choices(range(count), cum_weights=weights)[0]


def watched(draw: random.Random, length: int, leaves_early: float) -> int:
    """How many segments a viewer sees: a share leaves within the first five, the rest stays for a random part."""
    if draw.random() < leaves_early:
        return min(length, 1 + int(draw.expovariate(0.5)))
    return max(1, int(length * draw.uniform(0.3, 1.0)))


def sessions(draw: random.Random, catalogue: Catalogue, choose: Callable[[float], int], leaves_early: float) -> Iterator[Request]:
    """Endless mixed sessions; `choose(now_s)` gives the video of a new one."""
    running: list[tuple[float, int, int, int, int]] = []
    now = 0.0
    while True:
        while len(running) < SESSIONS_AT_ONCE:
            video = choose(now)
            rung = draw.choices(range(len(RUNG_BYTES)), RUNG_SHARE)[0]
            end = watched(draw, catalogue.segments_of(video), leaves_early)
            heapq.heappush(running, (now + draw.uniform(0, SEGMENT_S), video, rung, 0, end))
        now, video, rung, number, end = heapq.heappop(running)
        yield catalogue.segment(video, rung, number)
        if number + 1 < end:
            heapq.heappush(running, (now + SEGMENT_S * draw.uniform(0.9, 1.1), video, rung, number + 1, end))


def long_tail(count: int, seed: int) -> Trace:
    draw = random.Random(seed)
    pick = zipf(draw, 1500, 1.0)
    made = list(islice(sessions(draw, Catalogue(draw), lambda _: pick(), 0.4), count))
    return Trace("long tail", "1,500 videos, Zipf 1.0", made)


def new_releases(count: int, seed: int) -> Trace:
    """A video comes out every half minute; how often it is chosen halves with each five younger ones, over a long tail."""
    draw = random.Random(seed)
    pick = zipf(draw, 1500, 0.8)

    def choose(now: float) -> int:
        if draw.random() < 0.5:
            return max(0, int(now / 30) - int(draw.expovariate(1 / 7))) + 10_000
        return pick()

    made = list(islice(sessions(draw, Catalogue(draw), choose, 0.3), count))
    return Trace("new releases", "half of all sessions watch what came out in the last minutes", made)


def scans(count: int, seed: int) -> Trace:
    """A crawler reads whole videos in catalogue order beside the viewers: two requests in five."""
    draw = random.Random(seed)
    pick = zipf(draw, 1500, 0.9)
    catalogue = Catalogue(draw)
    viewers = sessions(draw, catalogue, lambda _: pick(), 0.4)

    def crawl() -> Iterator[Request]:
        order = list(range(1500))
        draw.shuffle(order)
        while True:
            for video in order:
                for number in range(catalogue.segments_of(video)):
                    yield catalogue.segment(video, 2, number)

    crawler = crawl()
    made = [next(crawler if draw.random() < 0.4 else viewers) for _ in range(count)]
    return Trace("scans", "a crawler reads the catalogue in order beside the viewers", made)


def abandoned(count: int, seed: int) -> Trace:
    draw = random.Random(seed)
    pick = zipf(draw, 6_000, 0.9)
    made = list(islice(sessions(draw, Catalogue(draw), lambda _: pick(), 0.85), count))
    return Trace("abandoned", "6,000 videos; 85 % of viewers leave within the first segments", made)


def mixed_sizes(count: int, seed: int) -> Trace:
    """Segments, pictures of some KiB and downloads of up to 100 MiB, as an ordinary site beside a video one has."""
    draw = random.Random(seed)
    pick, picture, download = zipf(draw, 800, 0.9), zipf(draw, 30_000, 1.0), zipf(draw, 600, 0.8)
    catalogue = Catalogue(draw)
    viewers = sessions(draw, catalogue, lambda _: pick(), 0.4)
    made: list[Request] = []
    for _ in range(count):
        drawn = draw.random()
        if drawn < 0.6:
            made.append(next(viewers))
        elif drawn < 0.995:
            made.append(catalogue.other(picture(), int(4_000 + draw.expovariate(1 / 30_000))))
        else:
            made.append(catalogue.other(100_000 + download(), int(1_000_000 + draw.expovariate(1 / 12_000_000)) % 100_000_000))
    return Trace("mixed sizes", "segments, pictures and large downloads", made)


TRACES: Final[tuple[Callable[[int, int], Trace], ...]] = (long_tail, new_releases, scans, abandoned, mixed_sizes)
