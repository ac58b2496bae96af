"""Freshness in a shared cache (RFC 9111 sections 3, 4.2, 5.2; RFC 5861): may it be stored, how long is it fresh, what then.

All times are Unix seconds, all lifetimes and ages seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headwater.rules.fields import Fields, directives, field
from headwater.rules.httpdate import parse_http_date

# RFC 9110 section 15.1: statuses that may be stored without an explicit lifetime.
HEURISTIC_STATUSES: Final = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))
UNDERSTOOD_STATUSES: Final = HEURISTIC_STATUSES | {302, 307, 400, 403, 500, 502, 503, 504}
NEGATIVE_STATUSES: Final = frozenset((404, 410))
HEURISTIC_FRACTION: Final = 0.1  # section 4.2.2
LONGEST_HEURISTIC_S: Final = 24 * 3600.0
LONGEST_LIFETIME_S: Final = 2.0**31  # section 1.2.2


class Storability(StrEnum):
    """Whether a response may be stored, or why not."""

    STORABLE = "storable"
    NO_STORE = "no_store"
    PRIVATE = "private"
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
    """How long a response may be used without asking, and then stale while asking or on error."""

    fresh_s: float
    stale_while_revalidate_s: float
    stale_if_error_s: float


def storability(status: int, fields: Fields, negative_ttl_s: float, now: float) -> Storability:
    """Whether a shared cache may keep this answer to a GET."""
    control = directives(field(fields, "cache-control"))
    if status not in UNDERSTOOD_STATUSES:
        return Storability.STATUS
    if "no-store" in control:
        return Storability.NO_STORE
    if "private" in control:
        return Storability.PRIVATE
    if (field(fields, "vary") or "").strip():
        return Storability.VARY
    if lifetime(status, fields, negative_ttl_s, now).fresh_s > 0 or has_validator(fields):
        return Storability.STORABLE
    return Storability.NO_LIFETIME


def has_validator(fields: Fields) -> bool:
    return field(fields, "etag") is not None or field(fields, "last-modified") is not None


def lifetime(status: int, fields: Fields, negative_ttl_s: float, now: float) -> Lifetime:
    """The response's lifetime from s-maxage, max-age, Expires or heuristics, in this order (section 4.2.1)."""
    control = directives(field(fields, "cache-control"))
    fresh_s = 0.0 if "no-cache" in control else _fresh_s(status, fields, control, negative_ttl_s, now)
    if control.keys() & {"must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"}:
        # Section 4.2.4: these forbid stale use, but for what RFC 5861 names explicitly beside s-maxage.
        forbidden = bool(control.keys() & {"must-revalidate", "proxy-revalidate", "no-cache"})
        stale_s, error_s = (0.0, 0.0) if forbidden else _extensions(control)
    else:
        stale_s, error_s = _extensions(control)
    return Lifetime(fresh_s, stale_s, error_s)


def corrected_initial_age(fields: Fields, request_time: float, response_time: float) -> float:
    """Section 4.2.3: how old the response was when it arrived."""
    date = parse_http_date(field(fields, "date"), response_time)
    apparent_age = max(0.0, response_time - date) if date is not None else 0.0
    corrected_age = _seconds((field(fields, "age") or "0").partition(",")[0].strip()) or 0.0
    return max(apparent_age, corrected_age + (response_time - request_time))


def decide_reuse(life: Lifetime, age_s: float) -> Reuse:
    if age_s < life.fresh_s:
        return Reuse.FRESH
    if age_s < life.fresh_s + life.stale_while_revalidate_s:
        return Reuse.STALE_WHILE_REVALIDATE
    return Reuse.REVALIDATE


def usable_on_error(life: Lifetime, age_s: float) -> bool:
    """Whether a stale response may stand in when no parent can be reached or all answer 5xx."""
    return age_s < life.fresh_s + max(life.stale_if_error_s, life.stale_while_revalidate_s)


def _fresh_s(status: int, fields: Fields, control: dict[str, str | None], negative_ttl_s: float, now: float) -> float:
    for name in ("s-maxage", "max-age"):
        if name in control:
            return _seconds(control[name]) or 0.0  # section 4.2.1: an invalid lifetime is stale
    expires = field(fields, "expires")
    if expires is not None:
        end = parse_http_date(expires, now)
        begin = parse_http_date(field(fields, "date"), now)
        return max(0.0, end - (now if begin is None else begin)) if end is not None else 0.0
    if status in NEGATIVE_STATUSES:
        return negative_ttl_s
    modified_at = parse_http_date(field(fields, "last-modified"), now)
    if modified_at is None or status not in HEURISTIC_STATUSES:
        return 0.0
    return min(max(0.0, now - modified_at) * HEURISTIC_FRACTION, LONGEST_HEURISTIC_S)


def _extensions(control: dict[str, str | None]) -> tuple[float, float]:
    return _seconds(control.get("stale-while-revalidate")) or 0.0, _seconds(control.get("stale-if-error")) or 0.0


def _seconds(text: str | None) -> float | None:
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text[:12]), LONGEST_LIFETIME_S)
