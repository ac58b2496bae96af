"""The header of a whole hit, rendered once for each object and cut where answers differ: at age, lifetime and trace."""

from __future__ import annotations

import re
from typing import Final

from headwater.cacheproxy.answers.delivery import cors_fields, hop_fields
from headwater.cacheproxy.roles import Site
from headwater.cacheproxy.store.metadata import Metadata
from headwater.rules.bucketload import bucket_of_path
from headwater.rules.cachestatus import CacheStatus, Outcome
from headwater.rules.fields import Fields, field

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f]")
# Paths that may not be what they look like: a grant's prefix is compared with a path as it stands, and goes into the log so.
_ODD_PATH: Final = re.compile(r"""[^\x21-\x7e]|[?#"\\]|/\.|%(?:2[eEfF]|5[cC])""")
# Stand for the values that differ from answer to answer, in a header that is rendered once and then cut at them.
_AGE, _TTL, _TRACE = "age-of-this-answer", 9_000_000_000_001, "traceparent-of-this-answer"


class LaneHead:
    """The header of a whole answer for one object at one site, cut where the trace stands. Age and lifetime in it are those of
    the moments from `since` to `until`, which are at most a second apart."""

    __slots__ = ("_fresh_s", "_parts", "bucket", "rest", "since", "site", "until", "until_trace")

    def __init__(self, node: str, hidden: tuple[str, ...], site: Site, metadata: Metadata, negative_ttl_s: float) -> None:
        self.site = site
        self.bucket = bucket_of_path(metadata.key.removeprefix(site.name))
        self.since = self.until = 0.0
        self.until_trace = self.rest = b""
        self._parts = _parts(node, hidden, site, metadata) if _is_plain(metadata) else None
        self._fresh_s = metadata.lifetime(negative_ttl_s).fresh_s

    def render(self, age_s: float, now: float) -> bool:
        """Makes it true of this moment; False when there is none, because the object is not fresh or needs more thought."""
        left_s = self._fresh_s - age_s
        if self._parts is None or left_s <= 0:
            return False
        until_age, until_ttl, until_trace, self.rest = self._parts
        self.until_trace = b"%b%d%b%d%b" % (until_age, int(age_s), until_ttl, int(left_s), until_trace)
        self.since, self.until = now, now + min(int(age_s) + 1 - age_s, left_s - int(left_s))
        return True


def _is_plain(metadata: Metadata) -> bool:
    """Whether the header depends on the object alone: what aiohttp would add at the moment of sending is there already."""
    fields = metadata.fields
    return (
        metadata.status == 200
        and metadata.size_bytes > 0
        and field(fields, "date") is not None
        and not _ODD_PATH.search(metadata.key)
        and not any(_UNSAFE.search(name + value) or not (name + value).isascii() for name, value in fields)
    )


def _parts(node: str, hidden: tuple[str, ...], site: Site, metadata: Metadata) -> tuple[bytes, bytes, bytes, bytes] | None:
    status = CacheStatus(node, Outcome.HIT, ttl_s=_TTL)
    fields: Fields = (
        *hop_fields(metadata.fields, hidden, cors_fields(site), _AGE, node, status, _TRACE),
        ("Accept-Ranges", "bytes"),
        ("Content-Length", str(metadata.size_bytes)),
    )
    if field(fields, "content-type") is None:
        fields = (*fields, ("Content-Type", "application/octet-stream"))  # as aiohttp does
    text = "\r\n".join(["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields), "", ""]).encode("ascii")
    parts = re.split(b"|".join(str(mark).encode() for mark in (_AGE, _TTL, _TRACE)), text)
    return (parts[0], parts[1], parts[2], parts[3]) if len(parts) == 4 else None
