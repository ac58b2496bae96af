"""What to answer to a request for a published object. Pure: the object's description and the request's fields in, a plan out."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headwater.rules.conditionals import Verdict, evaluate, if_range_holds
from headwater.rules.httpdate import format_http_date
from headwater.rules.ranges import Single, Unsatisfiable, parse_range
from headwater.runtime.problems import Problem
from origin.objects.interface import InvalidKey, ObjectInfo
from origin.objects.keys import check_key

PUBLISHED: Final = "videos/"
METHODS: Final = ("GET", "HEAD")
# Manifests are replaced whole while a video gains rungs; everything else never changes under its name.
MANIFESTS: Final = (".m3u8", ".mpd")
CACHE_MANIFEST: Final = "public, max-age=2, stale-while-revalidate=10"
# One that was replaced a moment ago is likely to grow: who plays at its end needs the next version in time, not a stale one.
CACHE_GROWING: Final = "public, max-age=1"
GROWING_S: Final = 60.0
CACHE_IMMUTABLE: Final = "public, max-age=31536000, immutable"
CACHE_MISSING: Final = "public, max-age=1"


@dataclass(frozen=True, slots=True)
class Plan:
    """`body` is what to send of the object: (first, last) both included, or None for no body (HEAD, 304, empty object)."""

    status: int
    headers: Mapping[str, str]
    body: tuple[int, int] | None


def object_key(raw_path: str) -> str:
    """The key that a request target asks for. Raises Problem 404: there is one spelling of each path, without escapes."""
    path = raw_path.partition("?")[0]
    try:
        if path.startswith("/" + PUBLISHED):
            return check_key(path[1:])
    except InvalidKey:
        pass
    raise not_found(path)


def not_found(path: str) -> Problem:
    """Remembered by caches for a second: an object that is being published will be there soon."""
    return Problem(404, "not-found", "Not found", f"there is nothing at {path[:200]}", headers={"Cache-Control": CACHE_MISSING})


def plan_answer(method: str, info: ObjectInfo, fields: Mapping[str, str], now: float) -> Plan:
    """The answer to a GET or HEAD of an object that exists. Raises Problem (412, 416). RFC 9110 sections 13.2.2 and 14.2."""
    headers = object_headers(info, now)
    etag, last_modified = headers["ETag"], headers["Last-Modified"]
    verdict = evaluate(
        method,
        etag,
        last_modified,
        if_match=fields.get("If-Match"),
        if_none_match=fields.get("If-None-Match"),
        if_modified_since=fields.get("If-Modified-Since"),
        if_unmodified_since=fields.get("If-Unmodified-Since"),
        now=now,
    )
    if verdict is Verdict.NOT_MODIFIED:
        return Plan(304, headers, None)
    if verdict is Verdict.PRECONDITION_FAILED:
        raise Problem(412, "precondition-failed", "Precondition failed", f"the object is {etag} of {last_modified}")
    # A range is asked of GET only (section 14.2).
    if method == "GET" and if_range_holds(fields.get("If-Range"), etag, last_modified, format_http_date(now)):
        match parse_range(fields.get("Range"), info.size_bytes):
            case Single() as single:
                return _part(headers, single, info.size_bytes)
            case Unsatisfiable():
                raise _unsatisfiable(info.size_bytes)
            # Several ranges are answered whole (section 14.2 allows it): shields ask for one.
    whole = (0, info.size_bytes - 1) if method == "GET" and info.size_bytes else None
    return Plan(200, {**headers, "Content-Length": str(info.size_bytes)}, whole)


def object_headers(info: ObjectInfo, now: float) -> dict[str, str]:
    """What every answer about the object says, whichever part of it is sent."""
    digest = base64.b64encode(bytes.fromhex(info.sha256)).decode("ascii")
    return {
        "Content-Type": info.content_type,
        "ETag": f'"{info.sha256}"',
        "Last-Modified": format_http_date(info.modified_at),
        "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530 section 3: of the whole object, also with 206
        "Cache-Control": _cache_control(info, now),
        "Accept-Ranges": "bytes",
    }


def _cache_control(info: ObjectInfo, now: float) -> str:
    if not info.key.endswith(MANIFESTS):
        return CACHE_IMMUTABLE
    return CACHE_GROWING if now - info.modified_at < GROWING_S else CACHE_MANIFEST


def _part(headers: Mapping[str, str], part: Single, size_bytes: int) -> Plan:
    fields = {**headers, "Content-Range": part.content_range(size_bytes), "Content-Length": str(part.length)}
    return Plan(206, fields, (part.first, part.last))


def _unsatisfiable(size_bytes: int) -> Problem:
    detail = f"the object has {size_bytes} bytes; none of the bytes asked for exists"
    headers = {"Content-Range": f"bytes */{size_bytes}", "Accept-Ranges": "bytes"}
    return Problem(416, "range-not-satisfiable", "Range not satisfiable", detail, headers=headers)
