"""Conditional requests (RFC 9110 section 13): whether a client already has what it asks for."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from headwater.rules.httpdate import parse_http_date

_TAG = re.compile(r'\s*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|\Z)')
STRONG_DATE_AGE_S: Final = 60.0  # section 8.8.2.2: a date is strong when the response is this much younger than it


class Verdict(Enum):
    PROCEED = "proceed"
    NOT_MODIFIED = "not_modified"
    PRECONDITION_FAILED = "precondition_failed"


def parse_etags(header: str) -> tuple[str, ...] | None:
    """The entity tags of a list, with their `W/`; None when the list is malformed."""
    tags: list[str] = []
    position = 0
    while position < len(header):
        if header[position] in " \t,":
            position += 1
            continue
        match = _TAG.match(header, position)
        if match is None:
            return None
        tags.append(match[1])
        position = match.end()
    return tuple(tags)


def weakly_equal(one: str, other: str) -> bool:
    return one.removeprefix("W/") == other.removeprefix("W/")


def strongly_equal(one: str, other: str) -> bool:
    return one == other and not one.startswith("W/")


def evaluate(
    method: str,
    etag: str | None,
    last_modified: str | None,
    *,
    if_match: str | None = None,
    if_none_match: str | None = None,
    if_modified_since: str | None = None,
    if_unmodified_since: str | None = None,
    now: float = 0.0,
) -> Verdict:
    """The precondition's outcome, in the order of section 13.2.2, for an object that exists."""
    modified_at = parse_http_date(last_modified, now)
    if if_match is not None:
        if not _matches(if_match, etag, strong=True):
            return Verdict.PRECONDITION_FAILED
    elif if_unmodified_since is not None:
        bound = parse_http_date(if_unmodified_since, now)
        if bound is not None and modified_at is not None and modified_at > bound:
            return Verdict.PRECONDITION_FAILED
    if if_none_match is not None:
        if _matches(if_none_match, etag, strong=False):
            return Verdict.NOT_MODIFIED if method in ("GET", "HEAD") else Verdict.PRECONDITION_FAILED
    elif if_modified_since is not None and method in ("GET", "HEAD"):
        since = parse_http_date(if_modified_since, now)
        if since is not None and modified_at is not None and modified_at <= since:
            return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def if_range_holds(if_range: str | None, etag: str | None, last_modified: str | None, date: str | None = None) -> bool:
    """Whether a `Range` may be honoured (section 13.1.5): absent, the same strong tag, or the exact strong date."""
    if if_range is None:
        return True
    if_range = if_range.strip()
    if if_range.startswith(('"', "W/")):
        return etag is not None and strongly_equal(if_range, etag)
    asked, modified_at = parse_http_date(if_range), parse_http_date(last_modified)
    if asked is None or asked != modified_at:
        return False
    answered_at = parse_http_date(date)
    return answered_at is None or answered_at - modified_at >= STRONG_DATE_AGE_S


def _matches(header: str, etag: str | None, *, strong: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = parse_etags(header)
    if tags is None or etag is None:
        return False
    return any(strongly_equal(tag, etag) if strong else weakly_equal(tag, etag) for tag in tags)
