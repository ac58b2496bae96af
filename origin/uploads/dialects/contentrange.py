"""Content-Range as Google's resumable uploads use it in requests. Pure.

bytes 0-262143/2000000      these bytes of a file of so many
bytes 0-262143/*            the file's size is not known yet
bytes */2000000, bytes */*  a question: how much is stored?
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|(\*))/(?:(\d{1,18})|(\*))\Z")


@dataclass(frozen=True, slots=True)
class Sent:
    """`first` is None for a question; `last` is included; `size` is None while the client does not know it."""

    first: int | None
    last: int | None
    size: int | None

    @property
    def length(self) -> int:
        return 0 if self.first is None or self.last is None else self.last - self.first + 1

    @property
    def ends_the_file(self) -> bool:
        return self.last is not None and self.size == self.last + 1


def parse_content_range(text: str) -> Sent:
    """Raises ValueError."""
    match = _RANGE.match(text.strip())
    if match is None:
        raise ValueError("`bytes first-last/size`, with * for what is not known,")
    size = int(match[4]) if match[4] else None
    if match[3]:
        return Sent(None, None, size)
    first, last = int(match[1]), int(match[2])
    if last < first or (size is not None and last >= size):
        raise ValueError("a first byte before the last, and both inside the file,")
    return Sent(first, last, size)


def stored_range(offset: int) -> dict[str, str]:
    """What a 308 says: nothing at all when nothing is stored."""
    return {"Range": f"bytes=0-{offset - 1}"} if offset else {}
