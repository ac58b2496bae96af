"""One slice of an object as the store and the fills know it, and what a worker tells the owner of a slice about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from headwater.cacheproxy.store.metadata import HEAD_STATUS, Metadata
from headwater.rules.fields import Fields
from headwater.rules.purging import TAG_FIELDS
from headwater.rules.ranges import Single
from headwater.rules.slices import slice_count, slice_key, slice_span

# Between the workers of one node only: which slice of which version is asked for. Never taken from a client.
SLICE_FIELD: Final = "Headwater-Slice"
SLICE_STATUS: Final = 206


@dataclass(frozen=True, slots=True)
class Piece:
    """Slice `index` of the object whose head is `head`."""

    head: Metadata
    index: int

    @property
    def key(self) -> str:
        return slice_key(self.head.key, self.head.version, self.head.slice_bytes, self.index)

    @property
    def url_key(self) -> str:
        """The key of the object's URL, by which purges name it."""
        return self.head.url_key or self.head.key

    @property
    def span(self) -> Single:
        """Its bytes in the whole object."""
        return slice_span(self.index, self.head.slice_bytes, self.head.total_bytes)

    @property
    def fields(self) -> Fields:
        """What is stored beside the bytes: the validator, and the tags that purges name."""
        kept = ("etag", *TAG_FIELDS)
        return tuple((name, value) for name, value in self.head.fields if name.lower() in kept)

    def metadata(self, request_time: float, response_time: float, accounted: int) -> Metadata:
        return Metadata(
            self.key,
            SLICE_STATUS,
            self.fields,
            self.span.length,
            request_time,
            response_time,
            url_key=self.url_key,
            accounted=accounted,
        )

    def told(self) -> str:
        """For the worker that owns the slice."""
        head = self.head
        members = {
            "key": head.key,
            "url_key": self.url_key,
            "total": head.total_bytes,
            "slice": head.slice_bytes,
            "index": self.index,
            "fields": self.fields,
        }
        return json.dumps(members)


def piece_told(text: str, url_key: str, accounted: int) -> Piece | None:
    """What another worker asks for of the object `url_key`; None when it does not fit together."""
    try:
        members = json.loads(text)
        fields = tuple((str(name), str(value)) for name, value in members["fields"])
        numbers = [int(members[name]) for name in ("total", "slice", "index")]
        total, size, index = numbers
        key = str(members["key"])
        if members["url_key"] != url_key or size < 1 or not 0 <= index < slice_count(size, total):
            return None
    except (ValueError, KeyError, TypeError):
        return None
    own = "" if key == url_key else url_key
    return Piece(Metadata(key, HEAD_STATUS, fields, 0, 0, 0, own, accounted, total_bytes=total, slice_bytes=size), index)
