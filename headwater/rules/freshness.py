"""Freshness in a shared cache (RFC 9111 sections 3, 4.2, 5.2; RFC 5861; RFC 9213): may it be stored, how long is it fresh.

All times are Unix seconds, all lifetimes and ages seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headwater.rules.fields import Fields, directives, field
from headwater.rules.httpdate import format_http_date, parse_http_date
from headwater.rules.structured import parse_dictionary

# RFC 9110 section 15.1: statuses that may be stored without an explicit lifetime.
HEURISTIC_STATUSES: Final = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))
# What this cache understands, for must-understand (RFC 9111 section 5.2.2.3).
UNDERSTOOD_STATUSES: Final = HEURISTIC_STATUSES | {302, 303, 307, 400, 401, 403, 429, 500, 502, 503, 504}
NEGATIVE_STATUSES: Final = frozenset((404, 410))
HEURISTIC_FRACTION: Final = 0.1  # section 4.2.2
LONGEST_HEURISTIC_S: Final = 24 * 3600.0
LONGEST_LIFETIME_S: Final = 2.0**31  # section 1.2.2

Control = Mapping[str, str | None]


class Storability(StrEnum):
    """Whether a response may be stored, or why not."""

    STORABLE = "storable"
    NO_STORE = "no_store"
    PRIVATE = "private"
    AUTHORIZED = "authorized"
    STATUS = "status_not_cacheable"
    VARY = "vary"
    NO_LIFETIME = "no_lifetime"


class Reuse(StrEnum):
    """What a stored response may be used for now."""

    FRESH = "fresh"
    STALE_WHILE_REVALIDATE = "stale_while_revalidate"
    REVALIDATE = "revalidate"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a response may be used without asking, and then stale while asking, on error, or for a client that allows it."""

    fresh_s: float
    stale_while_revalidate_s: float
    stale_if_error_s: float
    stale_forbidden: bool = False


def dated(fields: Fields, received: float) -> Fields:
    """RFC 9110 section 6.6.1: a recipient with a clock adds the Date that a response came without."""
    return fields if field(fields, "date") is not None else (*fields, ("Date", format_http_date(received)))


def response_control(fields: Fields) -> tuple[Control, bool]:
    """(directives, targeted) that hold for this cache: those of `CDN-Cache-Control` if it is there and valid (RFC 9213
    section 2.1), which then stands in for Cache-Control and Expires; else those of `Cache-Control`."""
    targeted = field(fields, "cdn-cache-control")
    if targeted:
        members = parse_dictionary(targeted)
        if members:
            return {name: None if value is True else str(value) for name, value in members.items() if _sane(name, value)}, True
    return directives(field(fields, "cache-control")), False


def _sane(name: str, value: object) -> bool:
    """RFC 9213 section 2.2: a directive whose value has the wrong type is ignored."""
    takes_seconds = name in ("max-age", "s-maxage", "stale-while-revalidate", "stale-if-error")
    return not takes_seconds or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def storability(status: int, fields: Fields, negative_ttl_s: float, now: float, *, authorized: bool = False) -> Storability:
    """Whether a shared cache may keep this answer to a GET (section 3); `authorized`: the request had Authorization."""
    control, _ = response_control(fields)
    if status < 200 or status in (206, 304) or ("must-understand" in control and status not in UNDERSTOOD_STATUSES):
        return Storability.STATUS
    if "no-store" in control and "must-understand" not in control:
        return Storability.NO_STORE
    if "private" in control and control["private"] is None:
        return Storability.PRIVATE
    if authorized and not control.keys() & {"public", "s-maxage", "must-revalidate"}:  # section 3.5
        return Storability.AUTHORIZED
    if "*" in (field(fields, "vary") or ""):
        return Storability.VARY
    if lifetime(status, fields, negative_ttl_s, now).fresh_s > 0 or has_validator(fields):
        return Storability.STORABLE
    return Storability.NO_LIFETIME


def stored_fields(fields: Fields) -> Fields:
    """The fields that a shared cache keeps: without those that `private="..."` and `no-cache="..."` name (sections 5.2.2.4,
    5.2.2.7); the latter could only be used after a validation, which brings them anew."""
    control, _ = response_control(fields)
    named = {name.strip().lower() for key in ("private", "no-cache") for name in (control.get(key) or "").split(",")}
    return tuple((name, value) for name, value in fields if name.lower() not in named)


def has_validator(fields: Fields) -> bool:
    return field(fields, "etag") is not None or field(fields, "last-modified") is not None


def has_explicit_lifetime(fields: Fields) -> bool:
    """Whether the response itself says how long it is fresh (section 4.2.1)."""
    control, targeted = response_control(fields)
    return bool(control.keys() & {"s-maxage", "max-age"}) or (not targeted and field(fields, "expires") is not None)


def lifetime(status: int, fields: Fields, negative_ttl_s: float, now: float) -> Lifetime:
    """The response's lifetime from s-maxage, max-age, Expires or heuristics, in this order (section 4.2.1)."""
    control, targeted = response_control(fields)
    always_ask = "no-cache" in control and control["no-cache"] is None
    forbidden = always_ask or bool(control.keys() & {"must-revalidate", "proxy-revalidate", "s-maxage"})
    strictly = always_ask or bool(control.keys() & {"must-revalidate", "proxy-revalidate"})
    fresh_s = 0.0 if always_ask else _fresh_s(status, fields, control, targeted, negative_ttl_s, now)
    if strictly:  # section 4.2.4: nothing allows stale use; beside s-maxage what RFC 5861 names explicitly still holds
        return Lifetime(fresh_s, 0.0, 0.0, stale_forbidden=True)
    stale_s = seconds(control.get("stale-while-revalidate")) or 0.0
    error_s = seconds(control.get("stale-if-error")) or 0.0
    return Lifetime(fresh_s, stale_s, error_s, stale_forbidden=forbidden)


def corrected_initial_age(fields: Fields, request_time: float, response_time: float) -> float:
    """Section 4.2.3: how old the response was when it arrived."""
    date = parse_http_date(field(fields, "date"), response_time)
    apparent_age = max(0.0, response_time - date) if date is not None else 0.0
    corrected_age = seconds((field(fields, "age") or "0").partition(",")[0].strip()) or 0.0
    return max(apparent_age, corrected_age + (response_time - request_time))


def decide_reuse(life: Lifetime, age_s: float, asked: Control | None = None) -> Reuse:
    """What a stored response of this age is good for; `asked` are the request's directives where they are honoured."""
    asked = asked or {}
    if "no-cache" in asked:
        return Reuse.REVALIDATE
    oldest_s = seconds(asked.get("max-age"))
    if oldest_s is not None and (age_s > oldest_s or oldest_s == 0):
        return Reuse.REVALIDATE
    needed_s = seconds(asked.get("min-fresh")) or 0.0
    if age_s + needed_s < life.fresh_s:
        return Reuse.FRESH
    if "max-stale" in asked and not life.stale_forbidden:
        allowed_s = LONGEST_LIFETIME_S if asked["max-stale"] is None else seconds(asked["max-stale"]) or 0.0
        if age_s < life.fresh_s + allowed_s:
            return Reuse.FRESH
    if not needed_s and age_s < life.fresh_s + life.stale_while_revalidate_s:
        return Reuse.STALE_WHILE_REVALIDATE
    return Reuse.REVALIDATE


def usable_on_error(life: Lifetime, age_s: float) -> bool:
    """Whether a stale response may stand in when no parent can be reached or all answer 5xx."""
    return age_s < life.fresh_s + max(life.stale_if_error_s, life.stale_while_revalidate_s)


def seconds(text: str | None) -> float | None:
    """delta-seconds (section 1.2.2), capped; None for anything else."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text[:12]), LONGEST_LIFETIME_S)


def _fresh_s(status: int, fields: Fields, control: Control, targeted: bool, negative_ttl_s: float, now: float) -> float:
    for name in ("s-maxage", "max-age"):
        if name in control:
            return seconds(control[name]) or 0.0  # section 4.2.1: an invalid lifetime is stale
    expires = None if targeted else field(fields, "expires")
    if expires is not None:
        end = parse_http_date(expires, now)
        begin = parse_http_date(field(fields, "date"), now)
        return max(0.0, end - (now if begin is None else begin)) if end is not None else 0.0
    at_least_s = negative_ttl_s if status in NEGATIVE_STATUSES else 0.0
    modified_at = parse_http_date(field(fields, "last-modified"), now)
    if modified_at is None or not (status in HEURISTIC_STATUSES or "public" in control):
        return at_least_s
    return max(at_least_s, min((now - modified_at) * HEURISTIC_FRACTION, LONGEST_HEURISTIC_S))
