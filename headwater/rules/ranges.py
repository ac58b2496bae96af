"""Range requests (RFC 9110 section 14): which bytes of an object of known size are asked for.

Asking is separate from sending: this module reads and resolves, nothing here touches a body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_RANGES: Final = 16  # more are answered whole: every extra range costs a part header (the "range bomb")
_RANGES = re.compile(r"bytes=(.*)\Z", re.IGNORECASE | re.DOTALL)
_ONE = re.compile(r"(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))\Z")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Whole:
    """No range, or one that must be ignored: send everything with 200."""


@dataclass(frozen=True, slots=True)
class Single:
    """Bytes `first` to `last`, both included, with 206."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def content_range(self, size: int | None) -> str:
        return f"bytes {self.first}-{self.last}/{'*' if size is None else size}"


@dataclass(frozen=True, slots=True)
class Several:
    """Two or more ranges in the order asked for, none overlapping: 206 multipart/byteranges."""

    parts: tuple[Single, ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Nothing that was asked for exists: 416 with `Content-Range: bytes */size`."""


Selection = Whole | Single | Several | Unsatisfiable


@dataclass(frozen=True, slots=True)
class Spec:
    """One range as asked: `first`-`last`, `first`- (last None), or the final `suffix` bytes (first None)."""

    first: int | None
    last: int | None
    suffix: int | None = None


def parse_specs(header: str | None) -> tuple[Spec, ...] | None:
    """The ranges asked for, unresolved; None where the header is absent or must be ignored (section 14.2)."""
    match = _RANGES.match(header.strip()) if header else None
    if match is None:
        return None
    specs: list[Spec] = []
    for text in match[1].split(","):
        text = text.strip(" \t")
        if not text:
            continue  # empty list members are allowed (section 5.6.1.2)
        one = _ONE.match(text)
        if one is None:
            return None
        first, last, suffix = one.groups()
        if first is None:
            specs.append(Spec(None, None, int(suffix)))
        elif last and int(last) < int(first):
            return None
        else:
            specs.append(Spec(int(first), int(last) if last else None))
    return tuple(specs) if 0 < len(specs) <= MAX_RANGES else None


def resolve(specs: tuple[Spec, ...] | None, size: int) -> Selection:
    """`specs` against an object of `size` bytes."""
    if specs is None:
        return Whole()
    found = [part for spec in specs if (part := _resolve_one(spec, size)) is not None]
    if not found:
        return Unsatisfiable()
    if len(found) > 1:
        found = _coalesced(found)
    return found[0] if len(found) == 1 else Several(tuple(found))


def parse_range(header: str | None, size: int) -> Selection:
    """The bytes that a `Range` header selects from an object of `size` bytes."""
    return resolve(parse_specs(header), size)


def parse_content_range(header: str | None) -> tuple[Single, int | None] | None:
    """(range, complete size or None when unknown) of a 206; None when it is malformed."""
    match = _CONTENT_RANGE.match(header.strip()) if header else None
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    size = None if match[3] == "*" else int(match[3])
    if last < first or (size is not None and last >= size):
        return None
    return Single(first, last), size


def _resolve_one(spec: Spec, size: int) -> Single | None:
    if spec.first is None:
        length = min(spec.suffix or 0, size)
        return Single(size - length, size - 1) if length else None
    if spec.first >= size:
        return None
    return Single(spec.first, size - 1 if spec.last is None else min(spec.last, size - 1))


def _coalesced(parts: list[Single]) -> list[Single]:
    """Overlapping and adjacent ranges are joined, as section 15.3.7.2 permits; separate ones keep their order."""
    joined: list[Single] = []
    for part in parts:
        merged = part
        kept: list[Single] = []
        for other in joined:
            if merged.first <= other.last + 1 and other.first <= merged.last + 1:
                merged = Single(min(merged.first, other.first), max(merged.last, other.last))
            else:
                kept.append(other)
        joined = [*kept, merged]
    return joined
