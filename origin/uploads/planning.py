"""How a file is cut into parts, and whether what arrived is what was planned. Pure: sizes in bytes, part numbers from 1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from headwater.settings.origin import Uploads
from origin.uploads.refusal import Refusal, UploadRefused

MAX_PARTS: Final = 10_000  # S3's limit for one multipart upload; the same everywhere, so that a deployment can move to S3
NUMBERS_NAMED: Final = 20  # of missing parts in the sentence for people; programs get all of them
KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Plan:
    """All parts but the last have `part_size_bytes`; the last has what is left, at least one byte."""

    size_bytes: int
    part_size_bytes: int

    @property
    def parts(self) -> int:
        return -(-self.size_bytes // self.part_size_bytes)

    def numbers(self) -> range:
        return range(1, self.parts + 1)

    def size_of(self, number: int) -> int:
        """Bytes of part `number`. Raises ValueError when the plan has no such part."""
        if not 1 <= number <= self.parts:
            raise ValueError(f"part {number} of {self.parts}")
        return min(self.part_size_bytes, self.size_bytes - (number - 1) * self.part_size_bytes)

    def offset_of(self, number: int) -> int:
        """Where part `number` begins in the file."""
        return (number - 1) * self.part_size_bytes

    def sizes(self) -> Iterator[tuple[int, int]]:
        """(number, bytes) of every part, in order."""
        return ((number, self.size_of(number)) for number in self.numbers())


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What keeps an upload from being completed: parts that are not there, and parts of the wrong size."""

    missing: tuple[int, ...]
    wrong_size: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.wrong_size)


def plan_upload(size_bytes: int, wanted_part_size: int | None, limits: Uploads) -> Plan:
    """The plan for a file of `size_bytes`. Without a wish the deployment's part size holds, grown for very large files.

    Raises UploadRefused.
    """
    if size_bytes < 1:
        raise UploadRefused(Refusal.EMPTY, "the file is empty (size 0); choose a file that holds a video")
    if size_bytes > limits.max_size:
        detail = f"the file has {size_bytes} bytes, at most {limits.max_size} are accepted here"
        raise UploadRefused(Refusal.TOO_LARGE, detail)
    least = -(-size_bytes // MAX_PARTS)
    if wanted_part_size is None:
        grown = -(-least // MIB) * MIB
        return Plan(size_bytes, limits.part_size if least <= limits.part_size else grown)
    if not limits.min_part_size <= wanted_part_size <= limits.max_part_size:
        detail = f"part_size may be {limits.min_part_size} to {limits.max_part_size} bytes, not {wanted_part_size}"
        raise UploadRefused(Refusal.PART_SIZE, detail)
    if wanted_part_size < least:
        detail = f"part_size {wanted_part_size} makes more than {MAX_PARTS} parts; choose at least {least}, or leave it out"
        raise UploadRefused(Refusal.TOO_MANY_PARTS, detail)
    return Plan(size_bytes, wanted_part_size)


def plan_stream(size_bytes: int, limits: Uploads) -> Plan:
    """The plan for a stream of `size_bytes`, which arrives in order; 0: not known before its end. Raises UploadRefused."""
    if size_bytes:
        return plan_upload(size_bytes, None, limits)
    return Plan(0, plan_upload(limits.max_size, None, limits).part_size_bytes)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stream is: `offset` bytes are stored without a gap; `tail` is the number of the part that is not full yet."""

    offset: int
    next_number: int
    tail_bytes: int


def stream_progress(part_size_bytes: int, arrived: Iterable[tuple[int, int]]) -> Progress:
    """Of the parts that arrived, given as (number, bytes)."""
    sizes = dict(arrived)
    offset, number = 0, 1
    while (size := sizes.get(number, 0)) == part_size_bytes:
        offset += size
        number += 1
    tail = size if size < part_size_bytes else 0
    return Progress(offset + tail, number, tail)


def digest_of_parts(part_size_bytes: int, parts: Iterable[tuple[int, str]]) -> str | None:
    """One digest of (bytes, SHA-256) of all parts in order: equal only for equal files. None when one is not known."""
    whole = hashlib.sha256(f"headwater-parts {part_size_bytes}".encode())
    for size_bytes, sha256 in parts:
        if not sha256:
            return None
        whole.update(f"\n{size_bytes} {sha256}".encode())
    return whole.hexdigest()


def shortfall(plan: Plan, arrived: Iterable[tuple[int, int]]) -> Shortfall:
    """What is wrong with the parts that arrived, given as (number, bytes). Parts that the plan does not know do not count."""
    sizes = dict(arrived)
    missing = tuple(number for number in plan.numbers() if number not in sizes)
    wrong = tuple(number for number, size in plan.sizes() if sizes.get(number, size) != size)
    return Shortfall(missing, wrong)


def damage_of(numbers: Sequence[int]) -> UploadRefused:
    detail = f"parts {_named(numbers)} do not have the SHA-256 they were sent with; send them again, then complete again"
    return UploadRefused(Refusal.PARTS_DAMAGED, detail, {"damaged": list(numbers)})


def shortage_of(short: Shortfall) -> UploadRefused:
    told = []
    if short.missing:
        told.append(f"parts {_named(short.missing)} have not arrived")
    if short.wrong_size:
        told.append(f"parts {_named(short.wrong_size)} have the wrong size")
    detail = f"{' and '.join(told)}; send them (GET …/upload gives fresh URLs), then complete again"
    return UploadRefused(Refusal.PARTS_MISSING, detail, {"missing": list(short.missing), "wrong_size": list(short.wrong_size)})


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:NUMBERS_NAMED]))
    return shown if len(numbers) <= NUMBERS_NAMED else f"{shown} and {len(numbers) - NUMBERS_NAMED} more"


def is_abandoned(created_at: float, last_arrived_at: float | None, now: float, keep_s: float) -> bool:
    """Whether an unfinished upload may be collected: nothing happened to it for `keep_s` seconds."""
    return now - max(created_at, last_arrived_at or 0.0) > keep_s
