"""The name that a TLS client asks for, read from its first message without taking part in the handshake.

Layout: RFC 8446 sections 5.1 (records) and 4.1.2 (ClientHello; the same in TLS 1.2), RFC 6066 section 3 (server_name).
A reader asks `wanted` how many bytes must have arrived and gives them to `server_name`.
"""

from __future__ import annotations

import struct
from typing import Final

LONGEST_HELLO: Final = 16 * 1024  # with post-quantum key shares they have some 2 KiB
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_RECORD_HEADER: Final = 5
_LONGEST_RECORD: Final = 2**14


def wanted(data: bytes) -> int:
    """How many bytes from the connection's first on are needed before `server_name` can tell; at most `len(data)` when it can."""
    message, at = b"", 0
    length: int
    while True:
        if at + _RECORD_HEADER > LONGEST_HELLO:
            return len(data)
        if len(data) < at + _RECORD_HEADER:
            return at + _RECORD_HEADER if data[at : at + 1] in (b"", bytes([_HANDSHAKE])) else len(data)
        (length,) = struct.unpack_from("!H", data, at + 3)
        if data[at] != _HANDSHAKE or not 0 < length <= _LONGEST_RECORD or at + _RECORD_HEADER + length > LONGEST_HELLO:
            return len(data)  # no hello that we would read, whatever follows
        end = at + _RECORD_HEADER + length
        if len(data) < end:
            return end
        message += data[at + _RECORD_HEADER : end]
        if len(message) >= 4 and (message[0] != _CLIENT_HELLO or len(message) >= 4 + _length_of(message)):
            return end
        at = end


def server_name(data: bytes) -> str | None:
    """The host name asked for; None when there is none, or when this is no well-formed ClientHello: the TLS library, which reads
    the same bytes, says why."""
    try:
        extensions = _extensions(_hello(data))
        names = extensions.get(_SERVER_NAME)
        if names is None:
            return None
        listed = _vector(names, 0, 2)[0]
        name, _ = _vector(listed, 1, 2)
        return name.decode("ascii") if listed[0] == _HOST_NAME and name else None
    except (IndexError, struct.error, UnicodeDecodeError):
        return None


def _hello(data: bytes) -> bytes:
    """The ClientHello's own bytes, out of one record or several."""
    message, at = b"", 0
    while data[at] == _HANDSHAKE:
        fragment, at = _vector(data, at + 3, 2)
        message += fragment
        if len(message) >= 4 and len(message) >= 4 + _length_of(message):
            break
    if message[0] != _CLIENT_HELLO:
        raise IndexError
    return message[4 : 4 + _length_of(message)]


def _extensions(hello: bytes) -> dict[int, bytes]:
    _, at = _vector(hello, 2 + 32, 1)  # after version and random: session id
    _, at = _vector(hello, at, 2)  # cipher suites
    _, at = _vector(hello, at, 1)  # compression methods
    block, _ = _vector(hello, at, 2)
    found: dict[int, bytes] = {}
    at = 0
    while at < len(block):
        kind: int = struct.unpack_from("!H", block, at)[0]
        value, at = _vector(block, at + 2, 2)
        found.setdefault(kind, value)
    return found


def _vector(data: bytes, at: int, length_bytes: int) -> tuple[bytes, int]:
    """(a vector with its length before it, where it ends). Raises IndexError when it does not end within `data`."""
    begin = at + length_bytes
    end = begin + int.from_bytes(data[at:begin], "big")
    if begin > len(data) or end > len(data):
        raise IndexError
    return data[begin:end], end


def _length_of(message: bytes) -> int:
    return int.from_bytes(message[1:4], "big")
