"""The name in a TLS client's first message, as real clients write it, in whole, in pieces, and mangled."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.clienthello import LONGEST_HELLO, server_name, wanted


def hello(name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name).do_handshake()
    return sent.read()


HELLO = hello("v3fa.cdn.test")


def in_records(message: bytes, size: int) -> bytes:
    """The same message in records of at most `size` bytes (RFC 8446 section 5.1)."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(piece)) + piece for piece in pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_is_read_from_what_openssl_sends(version: ssl.TLSVersion) -> None:
    data = hello("v3fa.cdn.test", version)
    assert wanted(data) == len(data)
    assert server_name(data) == "v3fa.cdn.test"


@pytest.mark.parametrize("asked", [None, "192.0.2.1"])
def test_a_client_that_asks_for_no_name_has_none(asked: str | None) -> None:
    assert server_name(hello(asked)) is None


@given(st.integers(0, len(HELLO) - 1))
def test_a_beginning_wants_more_and_never_more_than_there_will_be(length: int) -> None:
    assert length < wanted(HELLO[:length]) <= len(HELLO)


@given(st.integers(1, 600), st.data())
def test_a_message_may_come_in_any_records(size: int, data: st.DataObject) -> None:
    cut = in_records(HELLO[5:], size)
    assert wanted(cut) == len(cut)
    assert server_name(cut) == "v3fa.cdn.test"
    shorter = data.draw(st.integers(0, len(cut) - 1))
    assert shorter < wanted(cut[:shorter]) <= len(cut)


def test_what_follows_the_message_is_not_needed() -> None:
    assert wanted(HELLO + b"more") == len(HELLO)
    assert server_name(HELLO + b"more") == "v3fa.cdn.test"


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\x00\x00"]
)
def test_what_is_no_hello_is_left_to_the_tls_library_at_once(data: bytes) -> None:
    assert wanted(data) <= len(data)
    assert server_name(data) is None


def test_a_hello_without_end_is_not_waited_for() -> None:
    endless = in_records(b"\x01\xff\xff\xff" + bytes(2 * LONGEST_HELLO), 1000)
    assert wanted(endless) <= len(endless)
    assert all(wanted(endless[:length]) <= max(length, LONGEST_HELLO) for length in range(0, len(endless), 97))


@given(
    st.binary(max_size=600)
    | st.builds(lambda at, by: HELLO[:at] + by + HELLO[at + len(by) :], st.integers(0, len(HELLO)), st.binary(max_size=4))
)
def test_mangled_bytes_are_read_without_a_crash(data: bytes) -> None:
    assert wanted(data) <= max(5, len(data), LONGEST_HELLO)
    name = server_name(data)
    assert name is None or name.isascii()
