"""An order to a cache to fetch objects before anybody asks for them, and what became of it. Pure.

    {"objects": [{"key": "video/videos/…", "from": ["fra-1"]}, …], "concurrency": 4, "bandwidth_bps": 50000000}

`from` names caches that hold the object and are asked before the node's own parents. The answer counts what happened:

    {"fetched": 7, "present": 2, "failed": 1, "bytes": 4194304, "by_parent": {"fra-1": 7}, "failures": [{"key", "reason"}]}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from headwater.rules.aheaduse import Why

OBJECTS_AT_ONCE: Final = 200  # of one order: whoever has more sends one after the other, and so knows how far it is
CONCURRENCY_AT_MOST: Final = 64
SOURCES_AT_MOST: Final = 8
FAILURES_TOLD: Final = 5


class WarmOutcome(StrEnum):
    """What became of one object; also the metric's label."""

    FETCHED = "fetched"
    PRESENT = "present"
    FAILED = "failed"


class BadOrder(ValueError):
    """The order means nothing. The message says what was expected."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object, and the caches to ask first."""

    key: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WarmOrder:
    """`bandwidth_bps` bounds the bits per second of the whole order at one node, on average; None: no bound. `why` is the label
    under which the node counts what of it is used."""

    objects: tuple[Wanted, ...]
    concurrency: int = 4
    bandwidth_bps: float | None = None
    why: Why = Why.ORDER

    def members(self) -> dict[str, Any]:
        return {
            "objects": [{"key": one.key, "from": list(one.sources)} for one in self.objects],
            "concurrency": self.concurrency,
            "bandwidth_bps": self.bandwidth_bps,
            "why": self.why.value,
        }


@dataclass(slots=True)
class WarmReport:
    """Counts of objects by outcome, bytes fetched, and who gave how many objects."""

    counts: dict[WarmOutcome, int] = field(default_factory=lambda: dict.fromkeys(WarmOutcome, 0))
    size_bytes: int = 0
    by_parent: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def note(self, key: str, outcome: WarmOutcome, size_bytes: int = 0, parent: str | None = None, reason: str = "") -> None:
        self.counts[outcome] += 1
        self.size_bytes += size_bytes
        if parent is not None:
            self.by_parent[parent] = self.by_parent.get(parent, 0) + 1
        if outcome is WarmOutcome.FAILED and len(self.failures) < FAILURES_TOLD:
            self.failures.append((key, reason))

    def add(self, other: WarmReport) -> None:
        for outcome, count in other.counts.items():
            self.counts[outcome] += count
        self.size_bytes += other.size_bytes
        for parent, count in other.by_parent.items():
            self.by_parent[parent] = self.by_parent.get(parent, 0) + count
        self.failures = [*self.failures, *other.failures][:FAILURES_TOLD]

    def members(self) -> dict[str, Any]:
        return {
            **{outcome.value: count for outcome, count in self.counts.items()},
            "bytes": self.size_bytes,
            "by_parent": self.by_parent,
            "failures": [{"key": key, "reason": reason} for key, reason in self.failures],
        }


def order_from(members: object) -> WarmOrder:
    """The order of its JSON. Raises BadOrder."""
    if not isinstance(members, dict) or not isinstance(members.get("objects"), list):
        raise BadOrder("an object with a list of objects was expected")
    if len(members["objects"]) > OBJECTS_AT_ONCE:
        raise BadOrder(f"at most {OBJECTS_AT_ONCE} objects were expected at once")
    concurrency, bandwidth_bps = members.get("concurrency", 4), members.get("bandwidth_bps")
    if type(concurrency) is not int or not 1 <= concurrency <= CONCURRENCY_AT_MOST:
        raise BadOrder(f"concurrency: 1 to {CONCURRENCY_AT_MOST} was expected")
    if bandwidth_bps is not None and (type(bandwidth_bps) not in (int, float) or not 0 < bandwidth_bps < 1e15):
        raise BadOrder("bandwidth_bps: a rate above 0 was expected")
    why = members.get("why", Why.ORDER.value)
    if why not in (Why.ORDER, Why.PREPOSITION):
        raise BadOrder(f"why: {Why.ORDER} or {Why.PREPOSITION} was expected")
    return WarmOrder(tuple(map(_wanted, members["objects"])), concurrency, bandwidth_bps, Why(why))


def _wanted(members: object) -> Wanted:
    if not isinstance(members, dict):
        raise BadOrder("each object is {key, from}")
    key, sources = members.get("key"), members.get("from", [])
    if not isinstance(key, str) or "/" not in key or key.startswith("/"):
        raise BadOrder(f"key {key!r}: a property's name and a path were expected, as in video/videos/…")
    if not isinstance(sources, list) or len(sources) > SOURCES_AT_MOST or not all(isinstance(one, str) for one in sources):
        raise BadOrder(f"from: at most {SOURCES_AT_MOST} names of caches were expected")
    return Wanted(key, tuple(sources))


def report_from(members: Any) -> WarmReport:
    """The report of its JSON. Raises ValueError."""
    try:
        return WarmReport(
            {outcome: int(members[outcome.value]) for outcome in WarmOutcome},
            int(members["bytes"]),
            {str(parent): int(count) for parent, count in members["by_parent"].items()},
            [(str(one["key"]), str(one["reason"])) for one in members["failures"]],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no report of a warm order: {error!r}") from error


def in_orders(objects: Iterable[Wanted], at_once: int) -> Iterable[tuple[Wanted, ...]]:
    """The objects in parts of at most `at_once`."""
    part: list[Wanted] = []
    for one in objects:
        part.append(one)
        if len(part) == at_once:
            yield tuple(part)
            part = []
    if part:
        yield tuple(part)
