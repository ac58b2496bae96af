"""Parts are fetched ahead, in order, and never more than memory is meant for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import pytest

from origin.objects import s3verify
from origin.objects.s3multipart import Span
from origin.objects.s3verify import parts_with_digests

SPANS = [Span(number, "whole", 10 * number, 10) for number in range(1, 8)]


def body_of(span: Span) -> bytes:
    return bytes([span.number]) * span.size_bytes


def chunks(span: Span) -> Iterator[bytes]:
    yield body_of(span)[:4]
    yield body_of(span)[4:]


def test_parts_come_in_their_order_with_their_digests() -> None:
    found = [(b"".join(body), digest) for body, digest in parts_with_digests(SPANS, chunks)]
    assert found == [(body_of(span), hashlib.sha256(body_of(span)).hexdigest()) for span in SPANS]
    assert list(parts_with_digests([], chunks)) == []


def test_several_parts_are_fetched_at_once() -> None:
    together = threading.Barrier(3, timeout=30)

    def met(span: Span) -> Iterator[bytes]:
        if span.number <= 3:
            together.wait()
        yield from chunks(span)

    assert len(list(parts_with_digests(SPANS, met, at_once=3))) == len(SPANS)


def test_large_parts_are_fetched_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3verify, "AHEAD_BYTES", 19)
    inside = []

    def alone(span: Span) -> Iterator[bytes]:
        inside.append(span.number)
        yield from chunks(span)

    reading = parts_with_digests(SPANS, alone)
    next(reading)
    assert len(inside) == 1
    assert len(list(reading)) == len(SPANS) - 1


def test_a_part_that_cannot_be_read_ends_it() -> None:
    def broken(span: Span) -> Iterator[bytes]:
        if span.number == 5:
            raise OSError("gone")
        yield from chunks(span)

    with pytest.raises(OSError, match="gone"):
        list(parts_with_digests(SPANS, broken))
