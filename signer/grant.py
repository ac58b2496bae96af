"""Grants: the signed permission inside a URL. Pure: encode, decode, sign and check; no clock, no files.

The format is fixed byte by byte in docs/signed-urls.md, with test vectors. In short:

    grant     = base64url(claims) "." base64url(signature)          (no padding, canonical)
    claims    = "v=1&k=" key id "&e=" expiry "&p=" prefix [ "&b=" not-before ] [ "&n=" network ] [ "&s=" session ]
    signature = Ed25519 (64 bytes) or HMAC-SHA256 (32 bytes) over "headwater-grant\\n" + claims

The algorithm belongs to the key, never to the grant, so that nobody can choose a weaker one (RFC 8725 section 3.1).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KeyId = NewType("KeyId", str)
GrantToken = NewType("GrantToken", str)

SIGNED_CONTEXT: Final = b"headwater-grant\n"
MAX_TOKEN_CHARS: Final = 1024  # a grant with every claim stays under 400; longer ones are not worth a signature check
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_PREFIX = re.compile(r"/[A-Za-z0-9/_.~!$'()*+,;:@%-]*\Z")
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SECONDS = re.compile(r"(0|[1-9][0-9]{0,10})\Z")
_DOT_SEGMENT = re.compile(r"(?:/|%2f)(?:\.|%2e){1,2}(?:/|%2f|\Z)", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")


class Refusal(StrEnum):
    """Why a grant is refused, in the order of the checks. The same word stands in the log, the metric and the 403 body."""

    MISSING = "grant_missing"
    MALFORMED = "grant_malformed"
    UNKNOWN_KEY = "key_unknown"
    RETIRED_KEY = "key_retired"
    BAD_SIGNATURE = "signature_wrong"
    EXPIRED = "grant_expired"
    NOT_YET_VALID = "grant_not_yet_valid"
    WRONG_PREFIX = "path_not_covered"
    WRONG_NETWORK = "network_not_covered"


class GrantRefused(Exception):
    """A grant does not give the permission asked for."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail


class Algorithm(StrEnum):
    ED25519 = "ed25519"
    HMAC_SHA256 = "hmac-sha256"


class KeyState(StrEnum):
    """next: verified, not yet used to sign; active: signs and verifies; retired: refused."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """What a node needs to verify: 32 bytes, the public key (Ed25519) or the shared secret (HMAC)."""

    key_id: KeyId
    algorithm: Algorithm
    state: KeyState
    material: bytes = field(repr=False)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        if self.algorithm is Algorithm.HMAC_SHA256:
            return hmac.compare_digest(hmac.digest(self.material, message, "sha256"), signature)
        try:
            Ed25519PublicKey.from_public_bytes(self.material).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The active key's private half: 32 bytes, an Ed25519 seed or an HMAC secret."""

    key_id: KeyId
    algorithm: Algorithm
    secret: bytes = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        if self.algorithm is Algorithm.HMAC_SHA256:
            return hmac.digest(self.secret, message, "sha256")
        return Ed25519PrivateKey.from_private_bytes(self.secret).sign(message)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a URL's holder may do. Times are Unix seconds; `prefix` is the path covered, such as `/videos/{video_id}/`."""

    key_id: KeyId
    expires_at: int
    prefix: str
    not_before: int | None = None
    network: IPv4Network | IPv6Network | None = None
    session: str | None = None

    def claims(self) -> bytes:
        """The signed text. Raises ValueError when a claim cannot be written."""
        if not _KEY_ID.match(self.key_id):
            raise ValueError(f"key id {self.key_id!r}: lower-case letters, digits and '-' were expected, at most 32")
        if not _PREFIX.match(self.prefix):
            raise ValueError(f"prefix {self.prefix!r}: an absolute URL path was expected, with '&' and '=' percent-encoded")
        for name, seconds in (("expiry", self.expires_at), ("not-before", self.not_before)):
            if seconds is not None and not _SECONDS.match(f"{seconds}"):
                raise ValueError(f"{name} {seconds!r}: whole Unix seconds of at most 11 digits were expected")
        if self.network is not None:
            _require_plain(self.network)
        if self.session is not None and not _SESSION.match(self.session):
            raise ValueError(f"session {self.session!r}: at most 64 letters, digits, '-' and '_' were expected")
        parts = ["v=1", f"k={self.key_id}", f"e={self.expires_at}", f"p={self.prefix}"]
        if self.not_before is not None:
            parts.append(f"b={self.not_before}")
        if self.network is not None:
            parts.append(f"n={self.network}")
        if self.session is not None:
            parts.append(f"s={self.session}")
        return "&".join(parts).encode("ascii")

    def covers(self, path: str) -> bool:
        """Whether `path` (absolute, without query) is the prefix itself or lies below it, at a `/` boundary.

        A path with a dot segment is never covered: whoever resolves it later would leave the prefix (RFC 3986 section 5.2.4).
        """
        if not path.startswith(self.prefix) or _DOT_SEGMENT.search(path):
            return False
        return self.prefix.endswith("/") or len(path) == len(self.prefix) or path[len(self.prefix)] == "/"


def mint(grant: Grant, key: SigningKey) -> GrantToken:
    """The URL form of `grant`, signed. Raises ValueError when a claim cannot be written, is too long, or names another key."""
    if grant.key_id != key.key_id:
        raise ValueError(f"the grant names key {grant.key_id!r}, the signing key is {key.key_id!r}")
    claims = grant.claims()
    token = GrantToken(f"{_encode(claims)}.{_encode(key.sign(SIGNED_CONTEXT + claims))}")
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"the grant would have {len(token)} characters, more than {MAX_TOKEN_CHARS}: shorten its prefix")
    return token


def looks_like_token(text: str) -> bool:
    """Whether a path segment has the form of a grant; media paths never have it (no segment of theirs is that long)."""
    return len(text) > 64 and bool(_TOKEN.match(text))


def verify(token: str, keys: Mapping[KeyId, VerifyKey]) -> Grant:
    """The grant inside `token` if its signature holds and its key is not retired. Raises GrantRefused.

    What holds for every use of the grant is decided here and may be remembered; `check_use` decides the rest.
    """
    grant, claims, signature = decode(token)
    key = keys.get(grant.key_id)
    if key is None:
        raise GrantRefused(Refusal.UNKNOWN_KEY, f"key {grant.key_id!r} is not known here")
    if key.state is KeyState.RETIRED:
        raise GrantRefused(Refusal.RETIRED_KEY, f"key {grant.key_id!r} is retired")
    if not key.verifies(SIGNED_CONTEXT + claims, signature):
        raise GrantRefused(Refusal.BAD_SIGNATURE, f"the signature does not fit the claims and key {grant.key_id!r}")
    return grant


def check_use(grant: Grant, path: str, client: IPv4Address | IPv6Address, now: float, leeway_s: float) -> None:
    """Whether `client` may fetch `path` at Unix time `now`. Raises GrantRefused."""
    if now >= grant.expires_at + leeway_s:
        raise GrantRefused(Refusal.EXPIRED, f"expired {now - grant.expires_at:.0f} s ago")
    if grant.not_before is not None and now < grant.not_before - leeway_s:
        raise GrantRefused(Refusal.NOT_YET_VALID, f"valid in {grant.not_before - now:.0f} s")
    if not grant.covers(path):
        raise GrantRefused(Refusal.WRONG_PREFIX, f"covers {grant.prefix}, not {path}")
    if grant.network is not None and not _inside(client, grant.network):
        raise GrantRefused(Refusal.WRONG_NETWORK, f"covers clients of {grant.network}, not {client}")


def decode(token: str) -> tuple[Grant, bytes, bytes]:
    """(grant, claims, signature) without checking the signature. Raises GrantRefused(MALFORMED)."""
    if len(token) > MAX_TOKEN_CHARS or not _TOKEN.match(token):
        raise GrantRefused(Refusal.MALFORMED, "two base64url parts joined by '.' were expected")
    claims_part, _, signature_part = token.partition(".")
    claims, signature = _decode(claims_part), _decode(signature_part)
    return _parse_claims(claims), claims, signature


def _parse_claims(claims: bytes) -> Grant:
    """Strict: known names, in order, each at most once. A second spelling of one grant would be a second cache entry."""
    try:
        pairs = [field.partition("=")[::2] for field in claims.decode("ascii").split("&")]
        fields = dict(pairs)
        if [name for name, _ in pairs] != [name for name in "vkepbns" if name in fields] or fields["v"] != "1":
            raise ValueError("fields unknown, repeated or out of order")
        grant = Grant(
            key_id=KeyId(fields["k"]),
            expires_at=_seconds(fields["e"]),
            prefix=fields["p"],
            not_before=_seconds(fields["b"]) if "b" in fields else None,
            network=ip_network(fields["n"]) if "n" in fields else None,
            session=fields.get("s"),
        )
        if grant.claims() != claims:
            raise ValueError("not in canonical form")
    except (ValueError, KeyError) as error:
        raise GrantRefused(Refusal.MALFORMED, f"claims cannot be read: {error}") from error
    return grant


def _seconds(text: str) -> int:
    if not _SECONDS.match(text):
        raise ValueError(f"{text[:20]!r} is no time in Unix seconds")
    return int(text)


def _require_plain(network: IPv4Network | IPv6Network) -> None:
    """Refuses networks with no spelling of their own: a zone id may hold any text, and Pythons spell mapped ones differently."""
    if isinstance(network, IPv6Network):
        if network.network_address.scope_id is not None:
            raise ValueError(f"network {network}: a zone id means nothing to another machine; leave it out")
        if network.network_address.ipv4_mapped is not None:
            raise ValueError(f"network {network}: write the IPv4 network itself; mapped clients are compared as IPv4")


def _inside(client: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    return client.version == network.version and client in network


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise GrantRefused(Refusal.MALFORMED, "not base64url") from error
    if _encode(data) != text:
        raise GrantRefused(Refusal.MALFORMED, "not canonical base64url")
    return data
