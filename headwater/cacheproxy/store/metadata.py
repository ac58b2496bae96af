"""What the store knows of an object beside its bytes. It is written behind the body, versioned and checksummed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from headwater.rules.conditionals import parse_etags
from headwater.rules.fields import Fields, field, merged
from headwater.rules.freshness import Lifetime, corrected_initial_age, dated, lifetime, stored_fields
from headwater.rules.purging import tags_of
from headwater.rules.slices import Version

HEAD_STATUS: Final = 1  # of the head of an object in slices: it has no body of its own, and nobody may take it for a response


@dataclass(frozen=True)
class Metadata:
    """A stored response. `fields` are its end-to-end header fields; times are Unix seconds, as they were when it arrived.

    `url_key` is the key of its URL where `key` is a variant's; purges up to `accounted` are taken into account already, and
    `stale_since` is when a soft one ended the freshness. The head of an object in slices of `slice_bytes` says in `total_bytes`
    how long the whole is; of other objects both are 0.
    """

    key: str
    status: int
    fields: Fields
    size_bytes: int
    request_time: float
    response_time: float
    url_key: str = ""
    accounted: int = 0
    stale_since: float | None = None
    total_bytes: int = 0
    slice_bytes: int = 0

    @property
    def is_head(self) -> bool:
        return self.status == HEAD_STATUS

    @cached_property
    def version(self) -> Version:
        """Of the head of an object in slices."""
        return Version(self.etag or "", self.total_bytes)

    @cached_property
    def etag(self) -> str | None:
        tags = parse_etags(field(self.fields, "etag") or "")
        return tags[0] if tags else None

    @cached_property
    def last_modified(self) -> str | None:
        return field(self.fields, "last-modified")

    @cached_property
    def tags(self) -> frozenset[str]:
        return tags_of(self.url_key or self.key, self.fields)

    def lifetime(self, negative_ttl_s: float) -> Lifetime:
        known = self._lifetimes.get(negative_ttl_s)
        if known is None:
            known = lifetime(200 if self.is_head else self.status, self.fields, negative_ttl_s, self.response_time)
            if self.stale_since is not None:
                known = replace(known, fresh_s=min(known.fresh_s, self.age_s(self.stale_since)))
            self._lifetimes[negative_ttl_s] = known
        return known

    @cached_property
    def rendered(self) -> dict[str, Any]:
        """Header bytes made of this metadata, kept as long as it, by the name of whoever made them."""
        return {}

    @cached_property
    def _lifetimes(self) -> dict[float, Lifetime]:
        return {}

    def age_s(self, now: float) -> float:
        """RFC 9111 section 4.2.3. A clock that was set back must not make a response younger than it arrived."""
        return self._initial_age_s + max(0.0, now - self.response_time)

    @cached_property
    def _initial_age_s(self) -> float:
        return corrected_initial_age(self.fields, self.request_time, self.response_time)

    def is_of_body_of(self, other: Metadata) -> bool:
        """Whether both describe the same bytes, however their freshness differs."""
        return self._body == other._body

    @property
    def _body(self) -> tuple[object, ...]:
        return self.status, self.size_bytes, self.total_bytes, self.slice_bytes, self.etag, self.last_modified

    def confirmed(self, fields: Fields, request_time: float, response_time: float) -> Metadata:
        """The same body under the fields of a 304, as far as they may be kept (RFC 9111 section 3.2). Its Age counts anew, from
        the 304's Date, or arrival where it has none: under its old Date the object would never be fresh again."""
        kept = tuple((name, value) for name, value in self.fields if name.lower() != "age")
        return replace(
            self,
            fields=stored_fields(merged(kept, dated(fields, response_time))),
            request_time=request_time,
            response_time=response_time,
            stale_since=None,
        )

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "key": self.key,
                "status": self.status,
                "fields": self.fields,
                "size_bytes": self.size_bytes,
                "request_time": self.request_time,
                "response_time": self.response_time,
                "url_key": self.url_key,
                "accounted": self.accounted,
                "stale_since": self.stale_since,
                **({"total_bytes": self.total_bytes, "slice_bytes": self.slice_bytes} if self.is_head else {}),
            }
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Metadata:
        """Raises ValueError, KeyError or TypeError on anything else than what `to_json` wrote."""
        members = json.loads(text)
        return cls(
            key=str(members["key"]),
            status=int(members["status"]),
            fields=tuple((str(name), str(value)) for name, value in members["fields"]),
            size_bytes=int(members["size_bytes"]),
            request_time=float(members["request_time"]),
            response_time=float(members["response_time"]),
            url_key=str(members.get("url_key", "")),  # files of earlier versions have none of these
            accounted=int(members.get("accounted", 0)),
            stale_since=None if members.get("stale_since") is None else float(members["stale_since"]),
            total_bytes=int(members.get("total_bytes", 0)),
            slice_bytes=int(members.get("slice_bytes", 0)),
        )
