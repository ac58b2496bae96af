"""What of a response is sent to one client: everything, nothing, or parts. Asked of every source alike."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.rules.conditionals import Verdict, evaluate, if_range_holds
from headwater.rules.fields import Fields, field
from headwater.rules.ranges import Several, Single, Unsatisfiable, parse_specs, resolve


@dataclass(frozen=True, slots=True)
class SendWhole:
    """The status as stored, and the whole body."""


@dataclass(frozen=True, slots=True)
class SendNotModified:
    """304."""


@dataclass(frozen=True, slots=True)
class SendPreconditionFailed:
    """412."""


@dataclass(frozen=True, slots=True)
class SendPart:
    """206 with one range."""

    part: Single


@dataclass(frozen=True, slots=True)
class SendParts:
    """206 multipart/byteranges."""

    parts: tuple[Single, ...]


@dataclass(frozen=True, slots=True)
class SendUnsatisfiable:
    """416."""


# The request fields that can lead to anything else than the whole body.
_SELECTIVE = frozenset(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"))

BodyPlan = SendWhole | SendNotModified | SendPreconditionFailed | SendPart | SendParts | SendUnsatisfiable


def plan_body(method: str, asked: Fields, status: int, answer: Fields, size: int | None, now: float) -> BodyPlan:
    """`asked` and `answer` are the header fields of the request and of the stored or arriving response.

    Preconditions come before ranges (RFC 9110 section 13.2.2) and count for successful answers only. While the size is
    unknown (a chunked fill under way) a range is answered whole, as section 14.2 permits.
    """
    if status != 200 or _SELECTIVE.isdisjoint(name.lower() for name, _ in asked):
        return SendWhole()
    etag, last_modified = field(answer, "etag"), field(answer, "last-modified")
    verdict = evaluate(
        method,
        etag,
        last_modified or field(answer, "date"),  # RFC 9111 section 4.3.2: Date stands in for a missing Last-Modified
        if_match=field(asked, "if-match"),
        if_none_match=field(asked, "if-none-match"),
        if_modified_since=field(asked, "if-modified-since"),
        if_unmodified_since=field(asked, "if-unmodified-since"),
        now=now,
    )
    if verdict is Verdict.NOT_MODIFIED:
        return SendNotModified()
    if verdict is Verdict.PRECONDITION_FAILED:
        return SendPreconditionFailed()
    if method != "GET" or size is None:
        return SendWhole()
    if not if_range_holds(field(asked, "if-range"), etag, last_modified, field(answer, "date")):
        return SendWhole()
    match resolve(parse_specs(field(asked, "range")), size):
        case Single() as part:
            return SendPart(part)
        case Several(parts):
            return SendParts(parts)
        case Unsatisfiable():
            return SendUnsatisfiable()
        case _:
            return SendWhole()
