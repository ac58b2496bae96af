"""A body on its way under a digest: never whole where it does not fit, never with a hole where it does."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from headwater.cacheproxy.fills.digestcheck import DigestCheck

CHUNKS = st.lists(st.binary(max_size=5), min_size=1, max_size=8).filter(lambda chunks: any(chunks))


@given(CHUNKS, st.booleans(), st.sets(st.integers(0, 8)))
def test_all_bytes_go_on_in_order_whatever_ends_in_between(chunks: list[bytes], knows_length: bool, ends: set[int]) -> None:
    body = b"".join(chunks)
    check, passed = DigestCheck(sha256(body).digest()), b""
    for number, chunk in enumerate(chunks):
        arrived = b"".join(chunks[: number + 1])
        passed += check.feed(chunk, is_last=arrived == body if knows_length else None)
        assert body.startswith(passed)
        assert passed != body, "the last bytes wait for the end"
        if number in ends and arrived != body:  # an answer that was too short
            assert check.end() == (False, b"")
    holds, held = check.end()
    assert (holds, passed + held) == (True, body)


@given(CHUNKS, st.booleans())
def test_a_body_that_does_not_fit_is_never_passed_on_whole(chunks: list[bytes], knows_length: bool) -> None:
    body = b"".join(chunks)
    check = DigestCheck(sha256(body + b"x").digest())
    passed = b"".join(
        check.feed(chunk, is_last=b"".join(chunks[: number + 1]) == body if knows_length else None)
        for number, chunk in enumerate(chunks)
    )
    assert passed != body
    assert check.end() == (False, b"")


def test_without_a_digest_everything_goes_on_at_once() -> None:
    check = DigestCheck()
    assert check.feed(b"abc", is_last=True) == b"abc"
    assert check.end() == (None, b"")
