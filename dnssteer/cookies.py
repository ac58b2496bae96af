"""Server cookies (RFC 7873, made as RFC 9018 says): they prove that a UDP client's address is its own. Pure.

Servers that share a secret understand each other's cookies, whoever made them: the form is version 1 of RFC 9018 section 4.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

CLIENT_BYTES: Final = 8
SERVER_BYTES: Final = 16
SECRET_BYTES: Final = 16
VERSION: Final = 1
# RFC 9018 section 4.3: an hour back, five minutes ahead; a new one when half of the hour is over.
VALID_S: Final = 3600
AHEAD_S: Final = 300
RENEW_S: Final = 1800
JUDGED_S: Final = 60
MAX_JUDGED: Final = 65_536
_MASK: Final = 2**64 - 1


class Shown(StrEnum):
    """What a query showed: no COOKIE option, a client cookie alone, a server cookie not ours or too old, a good one."""

    NONE = "none"
    CLIENT_ONLY = "client_only"
    BAD = "bad"
    GOOD = "good"


def shown(option: bytes | None, client: IPv4Address | IPv6Address, secrets: Sequence[bytes], now: float) -> Shown:
    """Judges a COOKIE option of legal length (RFC 7873 section 4: 8, or 16 to 40 bytes)."""
    if option is None:
        return Shown.NONE
    if len(option) == CLIENT_BYTES:
        return Shown.CLIENT_ONLY
    if len(option) != CLIENT_BYTES + SERVER_BYTES or option[CLIENT_BYTES] != VERSION:
        return Shown.BAD
    (made,) = struct.unpack_from("!I", option, CLIENT_BYTES + 4)
    age_s = _serial_difference(int(now), made)
    if not -AHEAD_S <= age_s <= VALID_S:
        return Shown.BAD
    signed, tag = option[: CLIENT_BYTES + 8], option[CLIENT_BYTES + 8 :]
    good = any(hmac.compare_digest(siphash24(secret, signed + client.packed), tag) for secret in secrets)
    return Shown.GOOD if good else Shown.BAD


def server_cookie(client_cookie: bytes, client: IPv4Address | IPv6Address, secret: bytes, now: float) -> bytes:
    """16 bytes: version, three reserved, the time, and the hash over all that and the client's address."""
    head = struct.pack("!B3xI", VERSION, int(now) & 0xFFFFFFFF)
    return head + siphash24(secret, client_cookie + head + client.packed)


def needs_renewal(option: bytes, now: float) -> bool:
    """Whether a good cookie should be replaced by a new one."""
    (made,) = struct.unpack_from("!I", option, CLIENT_BYTES + 4)
    return _serial_difference(int(now), made) > RENEW_S


def kept_or_new(option: bytes, shown: Shown, client: IPv4Address | IPv6Address, secret: bytes, now: float) -> bytes:
    """RFC 7873 section 5.2: the client's part comes back; a server's part that will hold for a while comes back as it was."""
    if shown is Shown.GOOD and not needs_renewal(option, now):
        return option
    client_cookie = option[:CLIENT_BYTES]
    return client_cookie + server_cookie(client_cookie, client, secret, now)


class Judged:
    """Remembers for a while what was said of a client's COOKIE option: a resolver shows the same one again and again, and a hash
    costs more than all the rest of a remembered answer."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, IPv4Address | IPv6Address], tuple[Shown, bytes, float]] = {}

    def judged(
        self, option: bytes | None, client: IPv4Address | IPv6Address, secrets: Sequence[bytes], now: float
    ) -> tuple[Shown, bytes | None]:
        """(what it shows, what to send back), at most JUDGED_S old, and never good when it has expired."""
        if option is None:
            return Shown.NONE, None
        known = self._known.get((option, client))
        if known is not None and now < known[2]:
            return known[:2]
        verdict = shown(option, client, secrets, now)
        back = kept_or_new(option, verdict, client, secrets[0], now)
        until = now + JUDGED_S
        if verdict is Shown.GOOD:
            (made,) = struct.unpack_from("!I", option, CLIENT_BYTES + 4)
            until = min(until, now + VALID_S - _serial_difference(int(now), made))
        if len(self._known) >= MAX_JUDGED:
            self._known.clear()
        self._known[option, client] = (verdict, back, until)
        return verdict, back


def _serial_difference(later: int, earlier: int) -> int:
    """RFC 1982 arithmetic on 32 bits, so that 2106 is a second like others."""
    difference = (later - earlier) & 0xFFFFFFFF
    return difference - 2**32 if difference >= 2**31 else difference


def siphash24(key: bytes, message: bytes) -> bytes:
    """SipHash-2-4 (Aumasson and Bernstein 2012): 8 bytes, as they stand in the cookie (little-endian)."""
    k0, k1 = struct.unpack("<QQ", key)
    state = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    whole = len(message) // 8 * 8
    last = message[whole:].ljust(7, b"\x00") + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", message[:whole] + last):
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return struct.pack("<Q", state[0] ^ state[1] ^ state[2] ^ state[3])


def _rounds(state: list[int], count: int) -> None:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & _MASK
        v1 = ((v1 << 13 | v1 >> 51) & _MASK) ^ v0
        v0 = (v0 << 32 | v0 >> 32) & _MASK
        v2 = (v2 + v3) & _MASK
        v3 = ((v3 << 16 | v3 >> 48) & _MASK) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = ((v3 << 21 | v3 >> 43) & _MASK) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = ((v1 << 17 | v1 >> 47) & _MASK) ^ v2
        v2 = (v2 << 32 | v2 >> 32) & _MASK
    state[:] = v0, v1, v2, v3
