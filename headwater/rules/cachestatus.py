"""The `Cache-Status` field (RFC 9211): how each tier handled the request, the one nearest the origin first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Forwarded(StrEnum):
    """Why a request went to a parent (section 2.2)."""

    URI_MISS = "uri-miss"
    STALE = "stale"
    PARTIAL = "partial"
    METHOD = "method"
    REQUEST = "request"  # what is stored is fresh, but the request's own directives do not allow it
    BYPASS = "bypass"


class Outcome(StrEnum):
    """How a tier came by its answer; the label of metrics and logs."""

    HIT = "hit"
    STALE = "stale"
    MISS = "miss"
    COLLAPSED = "collapsed"
    PARTIAL = "partial"  # some of the slices that it takes are stored
    REVALIDATED = "revalidated"
    STALE_ON_ERROR = "stale_on_error"
    PASS = "pass"
    REFUSED = "refused"
    FAILED = "failed"
    LOCAL = "local"


_HITS: Final = frozenset((Outcome.HIT, Outcome.STALE, Outcome.STALE_ON_ERROR))
# What is meant where nobody knows better.
_FORWARDED: Final = {
    Outcome.MISS: Forwarded.URI_MISS,
    Outcome.COLLAPSED: Forwarded.URI_MISS,
    Outcome.REVALIDATED: Forwarded.STALE,
    Outcome.PARTIAL: Forwarded.PARTIAL,
    Outcome.PASS: Forwarded.BYPASS,
}


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One tier's member. `ttl_s` is the remaining freshness (negative: stale), `fwd_status` the parent's status; `forwarded` says
    why it was asked where the outcome does not."""

    node: str
    outcome: Outcome
    ttl_s: float | None = None
    fwd_status: int | None = None
    stored: bool = False
    detail: str | None = None
    forwarded: Forwarded | None = None

    def member(self) -> str:
        return "; ".join([self.node, *self._parameters()])

    def _parameters(self) -> list[str]:
        parameters: list[str] = []
        if self.outcome in _HITS:
            parameters.append("hit")
        elif self.outcome in _FORWARDED:
            parameters.append(f"fwd={self.forwarded or _FORWARDED[self.outcome]}")
        if self.outcome is Outcome.COLLAPSED:
            parameters.append("collapsed")
        if self.fwd_status is not None:
            parameters.append(f"fwd-status={self.fwd_status}")
        if self.stored:
            parameters.append("stored")
        if self.ttl_s is not None:
            parameters.append(f"ttl={int(self.ttl_s)}")
        if self.detail is not None:
            parameters.append(f"detail={self.detail}")
        return parameters


def with_member(received: str | None, status: CacheStatus) -> str:
    """The field's value after this tier: what the parents said (for this very response), then this tier's member."""
    return f"{received}, {status.member()}" if received else status.member()
