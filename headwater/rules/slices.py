"""Large objects in aligned slices: which slices a range needs, which to fetch ahead, and when they must not be used. Pure.

An object of one *version* (its strong validator and its length) is cut at multiples of the slice size. Each slice is a stored
object of its own under a key made of the version, so slices of two versions never share a key; a *head*, stored under the
object's key, holds the header fields and says which version is current. Dropping the head drops all slices at once.

Law
    - What is sent for a range are its bytes, each once, in order; every piece lies inside one slice.
    - No more than `ahead` slices are fetched beyond the one being sent, and none beyond the range that was asked for.
    - Only a strong validator makes slices: with a weak one nothing proves that two parts belong together (RFC 9110 15.3.7.3).
    - A slice of another version is never asked for, stored or sent under this one's head.

Rejected: slices of the first request's size (two clients would never share one); slices without a head, each with its own
freshness (then no moment exists at which the whole object is of one version).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headwater.rules.ranges import Single, Spec

KEY_MARK: Final = "#slice."  # `#` cannot stand in a request's target, so no URL leads to a slice


@dataclass(frozen=True, slots=True)
class SlicePolicy:
    """Objects of more than `above` bytes are kept in slices of `size` bytes, `ahead` of them fetched before they are needed."""

    above: int
    size: int
    ahead: int


@dataclass(frozen=True, slots=True)
class Version:
    """What all slices of one object must agree in: the strong entity tag and the length of the whole in bytes."""

    etag: str
    total: int


@dataclass(frozen=True, slots=True)
class WantedSlice:
    """The bytes `span` of exactly this version."""

    version: Version
    span: Single


def probe(policy: SlicePolicy, specs: tuple[Spec, ...] | None) -> Single | None:
    """What to ask of an object of which nothing is known yet, when these ranges are wanted: the slice in which the first one
    begins. A suffix begins nowhere known; the first slice tells the length. None: ask for the whole."""
    if not specs:
        return None
    return slice_at(specs[0].first or 0, policy.size)


def slice_at(position: int, size: int, total: int | None = None) -> Single:
    """The slice in which the byte `position` lies; the last one of an object of `total` bytes ends with it."""
    first = position - position % size
    return Single(first, first + size - 1 if total is None else min(first + size, total) - 1)


def slice_span(index: int, size: int, total: int) -> Single:
    return slice_at(index * size, size, total)


def slice_count(size: int, total: int) -> int:
    return -(-total // size)


def begins_slices(policy: SlicePolicy, asked: Single | None, status: int, part: Single | None, size: int | None) -> bool:
    """Whether this answer to the question for `asked` (None: for the whole) shows an object that is to be kept in slices: one
    above the threshold, or one of which an aligned slice came that is not all of it. Its validator is the caller's matter."""
    if size is None:
        return False
    if status == 200:
        return size > policy.above
    if status != 206 or asked is None or part is None:
        return False
    return part == Single(asked.first, min(asked.last, size - 1)) and part.length < size


def is_strong(etag: str | None) -> bool:
    return etag is not None and not etag.startswith("W/")


def pieces(first: int, last: int, size: int) -> Iterator[tuple[int, Single]]:
    """(index of a slice, the bytes to send of it) for the bytes `first` to `last`, both included, in order."""
    while first <= last:
        end = min(last, slice_at(first, size).last)
        yield first // size, Single(first, end)
        first = end + 1


def fetched_ahead(index: int, last: int, sent: int, ahead: int) -> range:
    """The slices to fetch while slice `index` is sent, of a range that ends in slice `last`.

    Whoever has taken `sent` slices so far gets twice as many more as that, one at least: a player that looks at the beginning
    and leaves costs little, one that reads on is soon served at full width.
    """
    return range(index + 1, min(last, index + min(ahead, max(1, 2 * sent))) + 1)


def slice_key(head_key: str, version: Version, size: int, index: int) -> str:
    """Where a slice lies; `head_key` is the key of the object's head (a variant's, where the object varies)."""
    told = hashlib.sha256(f"{version.total} {size} {version.etag}".encode()).hexdigest()[:32]
    return f"{head_key}{KEY_MARK}{told}.{index}"


def unknown_slice_key(key: str, size: int, position: int) -> str:
    """Stands for the slice of the byte `position` while no version is known: it belongs to whom that slice will belong."""
    return f"{key}{KEY_MARK}{'0' * 32}.{position // size}"
