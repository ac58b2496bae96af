"""Reading a parent's header for a fill: what it says to the machine, and the digest that its body must have."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from dataclasses import replace

from headwater.cacheproxy.fills.fillorders import FillHeader, FillOrder
from headwater.cacheproxy.fills.parents import OUTCOME_FIELD, TROUBLE_FIELD, Parent, ParentAnswer
from headwater.rules.cachestatus import Outcome
from headwater.rules.conditionals import parse_etags
from headwater.rules.fields import Fields, directives, end_to_end, field, without
from headwater.rules.fill import FillTrouble, HeaderArrived
from headwater.rules.freshness import Storability, corrected_initial_age, dated, lifetime, storability
from headwater.rules.ranges import parse_content_range
from headwater.rules.slices import SlicePolicy, Version, begins_slices, is_strong


def header_event(answer: ParentAnswer, parent: Parent) -> HeaderArrived:
    if parent.socket is None:
        return _plain_header_event(answer)
    trouble = answer.of_owner(TROUBLE_FIELD)
    return replace(_plain_header_event(answer), of_owner=True, trouble=FillTrouble(trouble) if trouble else None)


def _plain_header_event(answer: ParentAnswer) -> HeaderArrived:
    tags = parse_etags(field(answer.fields, "etag") or "")
    etag = tags[0] if tags else None
    ranged = parse_content_range(field(answer.fields, "content-range")) if answer.status == 206 else None
    if ranged is not None:
        return HeaderArrived(answer.status, etag, ranged[1], answer.framed, ranged[0])
    return HeaderArrived(answer.status, etag, answer.length, answer.framed)


def noted_header(answer: ParentAnswer, parent: Parent, order: FillOrder, asked_at: float, negative_ttl_s: float) -> FillHeader:
    """The answer as followers see it. A part that was asked for on the way to the whole stands for the whole (RFC 9110 section
    15.3.7: its fields are those that a 200 would have had)."""
    now = time.time()
    fields = dated(without(end_to_end(answer.fields), (OUTCOME_FIELD,)), now)
    status, size = answer.status, answer.length
    part = parse_content_range(field(fields, "content-range")) if status == 206 else None
    if part is not None:
        status, size = 200, part[1]
        fields = (*without(fields, ("content-range", "content-length", "content-digest")), ("Accept-Ranges", "bytes"))
    authorized = field(order.asked, "authorization") is not None
    return FillHeader(
        status=status,
        fields=fields,
        size=size,
        parent=parent.name,
        storability=storability(status, fields, negative_ttl_s, now, authorized=authorized),
        request_time=asked_at,
        response_time=now,
        fresh_until=now + lifetime(status, fields, negative_ttl_s, now).fresh_s - corrected_initial_age(fields, asked_at, now),
        outcome=Outcome(answer.of_owner(OUTCOME_FIELD) or Outcome.MISS) if parent.socket else None,
    )


def sliced_version(policy: SlicePolicy, order: FillOrder, event: HeaderArrived, header: FillHeader) -> Version | None:
    """The version of the object when it is to be kept in slices. A 200 must say that there are ranges to be had."""
    if order.piece is not None or header.storability is not Storability.STORABLE or event.etag is None or event.size is None:
        return None
    gives_parts = event.status == 206 or "bytes" in directives(field(header.fields, "accept-ranges"))
    begins = begins_slices(policy, order.probe, event.status, event.part, event.size)
    return Version(event.etag, event.size) if gives_parts and begins and is_strong(event.etag) else None


def digest_of(fields: Fields, name: str) -> bytes | None:
    """The SHA-256 in a `Repr-Digest` or `Content-Digest` field (RFC 9530); None when there is none that we can check."""
    value = directives(field(fields, name)).get("sha-256")
    if value is None or len(value) < 2 or value[0] != ":" or value[-1] != ":":
        return None
    try:
        digest = base64.b64decode(value[1:-1], validate=True)
    except binascii.Error:
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None
