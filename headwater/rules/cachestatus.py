"""The `Cache-Status` field (RFC 9211): how each tier handled the request, the one nearest the origin first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Forwarded(StrEnum):
    """Why a request went to a parent (section 2.2)."""

    URI_MISS = "uri-miss"
    STALE = "stale"
    PARTIAL = "partial"
    METHOD = "method"
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


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One tier's member. `ttl_s` is the remaining freshness (negative: stale), `fwd_status` the parent's status."""

    node: str
    outcome: Outcome
    ttl_s: float | None = None
    fwd_status: int | None = None
    stored: bool = False
    detail: str | None = None

    def member(self) -> str:
        return "; ".join([self.node, *self._parameters()])

    def _parameters(self) -> list[str]:
        parameters: list[str] = []
        match self.outcome:
            case Outcome.HIT | Outcome.STALE | Outcome.STALE_ON_ERROR:
                parameters.append("hit")
            case Outcome.MISS:
                parameters.append(f"fwd={Forwarded.URI_MISS}")
            case Outcome.COLLAPSED:
                parameters += [f"fwd={Forwarded.URI_MISS}", "collapsed"]
            case Outcome.REVALIDATED:
                parameters.append(f"fwd={Forwarded.STALE}")
            case Outcome.PARTIAL:
                parameters.append(f"fwd={Forwarded.PARTIAL}")
            case Outcome.PASS:
                parameters.append(f"fwd={Forwarded.BYPASS}")
            case Outcome.REFUSED | Outcome.FAILED | Outcome.LOCAL:
                pass
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
