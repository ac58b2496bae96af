"""Purging: which stored objects a purge covers. Pure.

A node carries out purge records in the order of their sequence numbers. Beside each object stands the number up to which
records are *accounted* for: that of the moment when its fill began. A record covers an object when it is later than that and
names it. So nothing is scanned when a purge arrives: a look-up asks the table, and what is covered is not there.

Law
    - What began to be filled before a purge is covered by it, however late it is stored; what began after it is not.
    - A soft purge never removes: it ends the object's freshness at the moment of the purge.
    - Prefixes end at `/` boundaries: `/a/b` names `/a/b` and what is below it, never `/a/bc`.
    - Folding old records into one that names everything may purge more than was asked for, never less.

Rejected: comparing clocks (two nodes' clocks differ by more than a fill takes); removing files one by one (a tag has a million).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from headwater.rules.fields import Fields
from headwater.rules.mediapath import path_video

TAG_FIELDS: Final = ("cache-tag", "surrogate-key")  # the former's members end at commas, the latter's at spaces


class PurgeKind(StrEnum):
    """How a record names objects: by their whole URL key, by the beginning of it, by a tag, or all there are."""

    OBJECT = "object"
    PREFIX = "prefix"
    TAG = "tag"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class PurgeRecord:
    """One purge. `target` is a URL key (`{property}{path}[?query]`), the beginning of one, or a tag; `at` are Unix seconds."""

    sequence: int
    kind: PurgeKind
    target: str
    soft: bool
    at: float


@dataclass(frozen=True, slots=True)
class Named:
    """What a record may name an object by: the key of its URL, and its tags."""

    key: str
    tags: frozenset[str] = frozenset()


class Coverage(StrEnum):
    """What the purges leave of an object."""

    KEPT = "kept"
    STALE = "stale"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`stale_since` are the Unix seconds of the soft purge that made an object stale."""

    coverage: Coverage
    stale_since: float | None = None


KEPT: Final = Verdict(Coverage.KEPT)
GONE: Final = Verdict(Coverage.GONE)


def names(record: PurgeRecord, named: Named) -> bool:
    """Whether the record names the object, whenever it was stored."""
    match record.kind:
        case PurgeKind.OBJECT:
            return record.target == named.key
        case PurgeKind.PREFIX:
            path = named.key.partition("?")[0]
            below = record.target if record.target.endswith("/") else f"{record.target}/"
            return path == record.target or path.startswith(below)
        case PurgeKind.TAG:
            return record.target in named.tags
        case PurgeKind.EVERYTHING:
            return True


def tags_of(key: str, fields: Fields) -> frozenset[str]:
    """An object's tags: those that its response names, and the id of the video whose path it lies under."""
    tags: set[str] = set()
    for name, value in fields:
        match name.lower():
            case "cache-tag":
                tags.update(tag.strip() for tag in value.split(","))
            case "surrogate-key":
                tags.update(value.split())
    video = path_video(key.partition("/")[2])
    if video is not None:
        tags.add(video)
    tags.discard("")
    return frozenset(tags)


@dataclass(slots=True)
class _Marks:
    """The latest hard and soft records of one target. A hard one covers all that an earlier soft one does."""

    hard: PurgeRecord | None = None
    soft: PurgeRecord | None = None

    def add(self, record: PurgeRecord) -> None:
        held = self.soft if record.soft else self.hard
        if held is not None and held.sequence >= record.sequence:
            return
        if record.soft:
            self.soft = record
            return
        self.hard = record
        if self.soft is not None and self.soft.sequence < record.sequence:
            self.soft = None

    def records(self) -> Iterator[PurgeRecord]:
        return (record for record in (self.hard, self.soft) if record is not None)


@dataclass(slots=True)
class PurgeTable:
    """Records by what they name. A verdict costs a dictionary look-up a tag and a path segment, however many objects and
    records there are. `sequence` is the latest record's number."""

    sequence: int = 0
    newest_tag: int = 0
    _objects: dict[str, _Marks] = field(default_factory=dict)
    _prefixes: dict[str, _Marks] = field(default_factory=dict)
    _tags: dict[str, _Marks] = field(default_factory=dict)
    _everything: _Marks = field(default_factory=_Marks)
    _deepest: int = 0  # slashes in the deepest prefix: a path of a thousand segments costs no more look-ups than these

    def __len__(self) -> int:
        return len(self._objects) + len(self._prefixes) + len(self._tags)

    def add(self, record: PurgeRecord) -> None:
        match record.kind:
            case PurgeKind.OBJECT:
                self._objects.setdefault(record.target, _Marks()).add(record)
            case PurgeKind.PREFIX:
                self._prefixes.setdefault(record.target, _Marks()).add(record)
                self._deepest = max(self._deepest, record.target.count("/"))
            case PurgeKind.TAG:
                self._tags.setdefault(record.target, _Marks()).add(record)
                self.newest_tag = max(self.newest_tag, record.sequence)
            case PurgeKind.EVERYTHING:
                self._everything.add(record)
        self.sequence = max(self.sequence, record.sequence)

    def verdict(self, named: Named, accounted: int) -> Verdict:
        """What the records after `accounted` leave of the object."""
        if accounted >= self.sequence:
            return KEPT
        stale_since: float | None = None
        for marks in self._naming(named):
            if marks.hard is not None and marks.hard.sequence > accounted:
                return GONE
            if marks.soft is not None and marks.soft.sequence > accounted:
                stale_since = marks.soft.at if stale_since is None else min(stale_since, marks.soft.at)
        return KEPT if stale_since is None else Verdict(Coverage.STALE, stale_since)

    def records(self) -> list[PurgeRecord]:
        """What the table holds, by sequence."""
        held = [*self._objects.values(), *self._prefixes.values(), *self._tags.values(), self._everything]
        return sorted((record for marks in held for record in marks.records()), key=lambda record: record.sequence)

    def _naming(self, named: Named) -> Iterator[_Marks]:
        yield self._everything
        if (marks := self._objects.get(named.key)) is not None:
            yield marks
        if self._tags:
            for tag in named.tags:
                if (marks := self._tags.get(tag)) is not None:
                    yield marks
        if self._prefixes:
            for beginning in _beginnings(named.key.partition("?")[0], self._deepest):
                if (marks := self._prefixes.get(beginning)) is not None:
                    yield marks


def folded(records: Iterable[PurgeRecord], at_most: int) -> list[PurgeRecord]:
    """The records, the oldest ones replaced by one that names everything stored before them, so that `at_most` are left."""
    ordered = sorted(records, key=lambda record: record.sequence)
    if len(ordered) <= at_most:
        return ordered
    kept = ordered[len(ordered) - at_most + 1 :]
    old = ordered[: len(ordered) - len(kept)]
    latest = old[-1]
    soft = all(record.soft for record in old)
    return [PurgeRecord(latest.sequence, PurgeKind.EVERYTHING, "", soft, min(record.at for record in old)), *kept]


def _beginnings(path: str, deepest: int) -> Iterator[str]:
    """The prefixes that name `path`: itself, and each part of it that ends at or before a slash, down to `deepest` slashes."""
    yield path
    position = path.find("/")
    for _ in range(deepest + 1):
        if position < 0:
            return
        yield path[:position]
        if position + 1 < len(path):  # else that is the path itself
            yield path[: position + 1]
        position = path.find("/", position + 1)
