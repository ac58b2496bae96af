"""Bytes sent per bucket: what a cache counts, and what `/load` says of it. Pure.

    {"since": 1795212000.25, "sent_bytes": {"3fa": 81920, ...}, "filled_bytes": {"3fa": 40960, ...}, "other_bytes": 0}

Counts grow while `since` stays (Unix seconds: when the node's youngest process began); a reader that finds another `since` than
before takes these counts as its new beginning. `filled_bytes` is the part that had to be fetched from a parent first. Buckets
without traffic are left out; bytes of anything else than videos are `other_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from headwater.rules.mediapath import path_video
from headwater.rules.names import BUCKETS, bucket_of

NO_BUCKET: Final = BUCKETS  # where bytes of other things than videos are counted
VIDEOS_REMEMBERED: Final = 65_536


def _zeros() -> list[int]:
    return [0] * (BUCKETS + 1)


@dataclass(slots=True)
class BucketLoad:
    """Body bytes by bucket; the last place is `NO_BUCKET`."""

    since: float
    sent_bytes: list[int] = field(default_factory=_zeros)
    filled_bytes: list[int] = field(default_factory=_zeros)

    def count(self, bucket: int, size_bytes: int, *, filled: bool) -> None:
        self.sent_bytes[bucket] += size_bytes
        if filled:
            self.filled_bytes[bucket] += size_bytes

    def members(self) -> dict[str, Any]:
        """As in the JSON document."""
        return {
            "since": self.since,
            "sent_bytes": _named(self.sent_bytes),
            "filled_bytes": _named(self.filled_bytes),
            "other_bytes": self.sent_bytes[NO_BUCKET],
        }


def load_from(members: Any) -> BucketLoad:
    """The load that `members` say. Raises ValueError when they are of another form."""
    try:
        load = BucketLoad(float(members["since"]))
        for name, counts in (("sent_bytes", load.sent_bytes), ("filled_bytes", load.filled_bytes)):
            for bucket, size_bytes in members[name].items():
                counts[_bucket(bucket)] = int(size_bytes)
        load.sent_bytes[NO_BUCKET] = int(members["other_bytes"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no load report: {error!r}") from error
    return load


def summed(loads: Iterable[BucketLoad]) -> BucketLoad:
    """The processes of one node as one. It counts since its youngest process began: an older sum may have lost one."""
    whole = BucketLoad(0.0)
    for load in loads:
        whole.since = max(whole.since, load.since)
        whole.sent_bytes = [ours + theirs for ours, theirs in zip(whole.sent_bytes, load.sent_bytes, strict=True)]
        whole.filled_bytes = [ours + theirs for ours, theirs in zip(whole.filled_bytes, load.filled_bytes, strict=True)]
    return whole


def grown(before: BucketLoad | None, after: BucketLoad) -> list[int]:
    """Bytes sent by bucket between two reports of a node; none when it began to count anew in between."""
    if before is None or before.since != after.since:
        return _zeros()
    return [max(0, now - then) for then, now in zip(before.sent_bytes, after.sent_bytes, strict=True)]


@lru_cache(maxsize=VIDEOS_REMEMBERED)
def _bucket_of_text(folder: str) -> int:
    video = path_video(folder)
    return NO_BUCKET if video is None else bucket_of(video)


def bucket_of_path(path: str) -> int:
    """The bucket whose bytes a path below a property (`/videos/{id}/…`) is, or NO_BUCKET."""
    parts = path.split("/", 3)
    return _bucket_of_text(f"videos/{parts[2]}/") if len(parts) == 4 and parts[1] == "videos" else NO_BUCKET


def _named(counts: Sequence[int]) -> Mapping[str, int]:
    return {f"{bucket:03x}": size_bytes for bucket, size_bytes in enumerate(counts[:BUCKETS]) if size_bytes}


def _bucket(name: str) -> int:
    bucket = int(name, 16)
    if not 0 <= bucket < BUCKETS or len(name) != 3:
        raise ValueError(f"{name!r} is no bucket: three hex digits were expected")
    return bucket
