"""Enrolment tokens: their text, and what is kept of them. Pure.

    hwe_{id}_{secret}_{authority}

id: 12 hex digits, not secret; secret: 43 characters of URL-safe base64 (256 random bits); authority: the SHA-256 of control's CA
certificate (64 hex digits), so that a node knows whom it talks to before it shows the secret: nothing is trusted on first use.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
DRAWN_BYTES: Final = ID_BYTES + SECRET_BYTES
_TOKEN = re.compile(r"hwe_([0-9a-f]{12})_([A-Za-z0-9_-]{43})_([0-9a-f]{64})\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class InvalidEnrolToken(ValueError):
    """The text is no enrolment token; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class EnrolToken:
    """A token as the operator has it. `authority` is the SHA-256 (hex) of the CA certificate (DER)."""

    id: str
    secret: str
    authority: str

    @property
    def text(self) -> str:
        return f"hwe_{self.id}_{self.secret}_{self.authority}"

    @property
    def secret_sha256(self) -> str:
        return hashlib.sha256(self.secret.encode("ascii")).hexdigest()

    def __repr__(self) -> str:
        return f"EnrolToken(id={self.id!r})"  # logs and test output get no secret


def draw_enrol_token(random: bytes, authority: str) -> EnrolToken:
    """The token of DRAWN_BYTES random bytes, which the caller draws."""
    if len(random) != DRAWN_BYTES:
        raise InvalidEnrolToken(f"a token is made of {DRAWN_BYTES} bytes, not {len(random)}")
    if not _DIGEST.match(authority):
        raise InvalidEnrolToken("the authority's SHA-256 has 64 hex digits")
    secret = base64.urlsafe_b64encode(random[ID_BYTES:]).rstrip(b"=").decode("ascii")
    return EnrolToken(random[:ID_BYTES].hex(), secret, authority)


def parse_enrol_token(text: str) -> EnrolToken:
    """Raises InvalidEnrolToken."""
    match = _TOKEN.match(text.strip())
    if match is None:
        raise InvalidEnrolToken(
            "an enrolment token is hwe_, 12 hex digits, _, 43 characters, _ and 64 hex digits; copy it whole, as "
            "`headwater enrol token` printed it"
        )
    return EnrolToken(match[1], match[2], match[3])
