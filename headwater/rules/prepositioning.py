"""The nightly window: when it is, which videos a region will likely watch, and what each edge should fetch of them. Pure.

The prediction is that tomorrow is like today: a region's demand by bucket (bytes of the last days, older ones counting less) is
given to the videos that its caches call hottest; what other regions watch counts for a tenth, because popularity travels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headwater.rules.mediapath import path_video
from headwater.rules.names import VideoId, bucket_of
from headwater.rules.warmorder import Wanted

DAY_S: Final = 86_400
ELSEWHERE: Final = 0.1  # what a byte watched in another region counts
HALF_LIFE_S: Final = DAY_S
_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])\Z")

# Regions by name, to bytes by bucket.
Demand = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class Window:
    """A time of each day in UTC: from `start_s` for `length_s`, seconds after midnight and seconds."""

    start_s: int
    length_s: int

    def __str__(self) -> str:
        return f"{_clock(self.start_s)}-{_clock((self.start_s + self.length_s) % DAY_S)}"

    def opened_at(self, now: float) -> int | None:
        """When the window that holds Unix time `now` began; None outside. It names the night."""
        began = int((now - self.start_s) // DAY_S) * DAY_S + self.start_s
        return began if now < began + self.length_s else None


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}"


def parse_window(text: object) -> Window:
    """The window of `02:00-05:00`. Raises ValueError."""
    match = _WINDOW.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("two times of the day in UTC were expected, such as '02:00-05:00'")
    from_h, from_min, to_h, to_min = map(int, match.groups())
    start_s, end_s = from_h * 3600 + from_min * 60, to_h * 3600 + to_min * 60
    if start_s == end_s:
        raise ValueError("the window has no length; give it an end that differs from its beginning")
    return Window(start_s, (end_s - start_s) % DAY_S)


def aged(sizes: Mapping[int, float], seconds: float) -> dict[int, float]:
    """Demand as it counts so many seconds later."""
    part = 0.5 ** (max(0.0, seconds) / HALF_LIFE_S)
    return {bucket: size * part for bucket, size in sizes.items() if size * part >= 1}


@dataclass(frozen=True, slots=True)
class Hot:
    """One entry of a cache's list of its hottest objects."""

    key: str
    size_bytes: int


def video_of(key: str) -> VideoId | None:
    """The video that an object (its key: property and path) is of."""
    return path_video(key.partition("/")[2])


def top_videos(region: str, demand: Demand, lists: Iterable[Sequence[Hot]], at_most: int) -> list[VideoId]:
    """The videos that the region will likely watch most, most likely first. A bucket's demand goes to its videos by their places
    in the lists: the second gets half of what the first one gets."""
    places: dict[VideoId, int] = {}
    for entries in lists:
        for place, entry in enumerate(entries):
            video = video_of(entry.key)
            if video is not None:
                places[video] = min(place, places.get(video, place))
    order = sorted(places, key=lambda video: (places[video], video))
    in_bucket: dict[int, int] = {}
    scores: dict[VideoId, float] = {}
    for video in order:
        bucket = bucket_of(video)
        in_bucket[bucket] = rank = in_bucket.get(bucket, 0) + 1
        own = demand.get(region, {}).get(bucket, 0.0)
        others = sum(sizes.get(bucket, 0.0) for name, sizes in demand.items() if name != region)
        scores[video] = (own + ELSEWHERE * others) / rank
    chosen = [video for video in order if scores[video] > 0]
    chosen.sort(key=lambda video: -scores[video])  # stable: equal ones stay in the order of the lists
    return chosen[:at_most]


@dataclass(frozen=True, slots=True)
class EdgeFill:
    """What one edge should fetch for a region, in this order, within its budget."""

    region: str
    edge: str
    objects: tuple[tuple[Wanted, int], ...]

    @property
    def size_bytes(self) -> int:
        return sum(size_bytes for _, size_bytes in self.objects)


def plan_fills(
    demand: Demand,
    lists: Mapping[str, Sequence[Hot]],
    owned: Mapping[str, Sequence[str]],
    shields: Iterable[str],
    top: int,
    left_bytes: Mapping[str, int],
) -> list[EdgeFill]:
    """For each region, the objects of its top videos that the edges which own them (`owned`: by region and bucket) lack.

    `lists` are the caches' hottest objects by node; `left_bytes` is what each edge may still fetch tonight. An object that no
    shield has is fetched from a cache that has it. An edge that serves two regions has one budget for both.
    """
    left, behind = dict(left_bytes), set(shields)
    objects = _by_video(lists)
    holders = {node: {entry.key for entry in entries} for node, entries in lists.items()}
    fills: list[EdgeFill] = []
    taken: dict[str, set[str]] = {}
    for region, by_bucket in owned.items():
        wanted: dict[str, list[tuple[Wanted, int]]] = {}
        for video in top_videos(region, demand, lists.values(), top):
            edge = by_bucket[bucket_of(video)]
            if edge not in left:
                continue
            known = taken.setdefault(edge, set(holders.get(edge, ())))
            for entry in objects[video]:
                if entry.key in known or entry.size_bytes > left[edge]:
                    continue
                known.add(entry.key)
                left[edge] -= entry.size_bytes
                wanted.setdefault(edge, []).append((Wanted(entry.key, _sources(entry.key, holders, behind)), entry.size_bytes))
        fills.extend(EdgeFill(region, edge, tuple(found)) for edge, found in wanted.items())
    return fills


def _by_video(lists: Mapping[str, Sequence[Hot]]) -> dict[VideoId, list[Hot]]:
    """Each video's objects, each once, the hottest of all lists first."""
    found: dict[VideoId, dict[str, Hot]] = {}
    for place in range(max(map(len, lists.values()), default=0)):
        for entries in lists.values():
            if place < len(entries) and (video := video_of(entries[place].key)) is not None:
                found.setdefault(video, {}).setdefault(entries[place].key, entries[place])
    return {video: list(entries.values()) for video, entries in found.items()}


def _sources(key: str, holders: Mapping[str, set[str]], shields: set[str]) -> tuple[str, ...]:
    having = [node for node, keys in holders.items() if key in keys]
    return () if any(node in shields for node in having) else tuple(having[:2])
