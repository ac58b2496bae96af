"""Bounded loads: which buckets the fullest nodes pass on to the next in rank. Pure.

Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2018): no node takes more than (1+ε) times its fair
share; what does not fit goes to the next in rank that has room. Here loads are measured, so that the law is

- a node's bound is its capacity times the larger of `floor` and `factor` times the mean utilisation of its group, but no more
  than FULL of its capacity. Below its bound nobody passes anything on: a lightly used CDN never moves.
- a node over its bound passes on its hottest buckets, hottest first (the fewest objects become cold elsewhere), as long as the
  next in rank has room; a next of the same group that has none passes the bucket on too; without room anywhere it stays.
- a bucket comes back when its node would have it and stay under `release` times its bound. Between the two nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FULL: Final = 0.95  # of a capacity; who sends all that it can shows no more, so "over its capacity" is never measured

Passes = Mapping[str, frozenset[int]]
Choices = Callable[[int, str], Iterable[str]]
Loads = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """`factor` is 1+ε; the others are parts of a capacity (`floor`) and of a bound (`release`)."""

    factor: float = 1.25
    floor: float = 0.7
    release: float = 0.8


@dataclass(frozen=True, slots=True)
class Member:
    """A POP or an edge: those of one group share a load. `capacity` and all loads have one unit, such as bits per second."""

    name: str
    group: str
    capacity: float


def limits(members: Iterable[Member], used: Mapping[str, float], bounds: Bounds) -> dict[str, float]:
    """What each member may carry."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(member.group, []).append(member)
    found: dict[str, float] = {}
    for group in groups.values():
        whole = sum(member.capacity for member in group)
        mean = sum(used[member.name] for member in group) / whole if whole else 0.0
        part = max(min(bounds.floor, FULL), min(bounds.factor * mean, FULL))
        found |= {member.name: member.capacity * part for member in group}
    return found


def passing(
    members: Sequence[Member], loads: Loads, before: Passes, choices: Choices, bounds: Bounds
) -> dict[str, frozenset[int]]:
    """What each member passes on from now; members that pass nothing are left out.

    `loads` are by member and bucket, `before` is what is passed on now, and `choices(bucket, member)` names the others in the
    order in which they would get the bucket of `member`.
    """
    return _Balance(members, loads, before, choices, bounds).settled()


class _Balance:
    """One settling of the loads: what each carries, changed as buckets move."""

    def __init__(self, members: Sequence[Member], loads: Loads, before: Passes, choices: Choices, bounds: Bounds) -> None:
        self._groups = {member.name: member.group for member in members}
        # By member, the load of each bucket that it has.
        self._loads = {
            name: {bucket: size for bucket, size in enumerate(loads.get(name, ())) if size > 0} for name in sorted(self._groups)
        }
        self._passes = {name: set(before.get(name, ())) for name in self._loads}
        # Viewers of a bucket that is passed on are leaving; nothing more need go for their sake.
        self._used = {
            name: sum(size for bucket, size in load.items() if bucket not in self._passes[name])
            for name, load in self._loads.items()
        }
        self._limits = limits(members, self._used, bounds)
        self._choices = choices
        self._release = bounds.release

    def settled(self) -> dict[str, frozenset[int]]:
        for name in self._loads:
            self._take_back(name)
        for name in self._loads:
            self._pass_on(name)
        return {name: frozenset(passed) for name, passed in self._passes.items() if passed}

    def _take_back(self, name: str) -> None:
        """The smallest first. What a bucket would bring is what its busiest other holder sends now."""
        own = self._loads[name]
        elsewhere = {bucket: self._busiest(bucket, name) for bucket in self._passes[name]}
        for bucket, (size, holder) in sorted(elsewhere.items(), key=lambda item: (item[1][0], item[0])):
            staying = own.get(bucket, 0.0)
            if self._used[name] + staying + size > self._release * self._limits[name]:
                return
            self._passes[name].discard(bucket)
            self._used[name] += staying
            self._move(bucket, size, holder, name)

    def _pass_on(self, name: str) -> None:
        load = self._loads[name]
        hottest = sorted(
            (bucket for bucket in load if bucket not in self._passes[name]), key=lambda bucket: (-load[bucket], bucket)
        )
        for bucket in hottest:
            if self._used[name] <= self._limits[name]:
                return
            full: list[str] = []
            taker = self._taker(bucket, name, full)
            if taker is not None:
                for passing_too in (name, *full):
                    self._passes[passing_too].add(bucket)
                self._move(bucket, load[bucket], name, taker)

    def _taker(self, bucket: int, name: str, full: list[str]) -> str | None:
        """The first that has room; `full` gets those of the group before it, which must pass the bucket on as well."""
        size = self._loads[name][bucket]
        for other in self._choices(bucket, name):
            if other not in self._used or bucket in self._passes[other]:
                continue
            if self._used[other] + size <= self._limits[other]:
                return other
            if self._groups[other] != self._groups[name] or bucket in self._loads[other]:
                return None  # it has viewers of its own for the bucket, who shall not move for ours
            full.append(other)
        return None

    def _busiest(self, bucket: int, name: str) -> tuple[float, str]:
        others = [(load[bucket], other) for other, load in self._loads.items() if other != name and bucket in load]
        return max(others, default=(0.0, name))

    def _move(self, bucket: int, size: float, source: str, target: str) -> None:
        self._used[source] -= size
        self._used[target] += size
        self._loads[target][bucket] = self._loads[target].get(bucket, 0.0) + size
