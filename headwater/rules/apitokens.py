"""API tokens of creators and operators: their text, what is kept of them, and whether one permits a request. Pure.

    hw_{id}_{secret}        id: 12 hex digits, not secret; secret: 43 characters of URL-safe base64 (256 random bits)

Who keeps a token (the origin's catalogue or control) stores the id and the SHA-256 of the secret, never the secret: it has 256
random bits, so that a slow password hash would add nothing but time to every request. They are shown as `Bearer` tokens
(RFC 6750); the words of `TokenRefusal` are the problems' types and the metrics' labels.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
DRAWN_BYTES: Final = ID_BYTES + SECRET_BYTES
REALM: Final = "headwater"
_TOKEN = re.compile(r"hw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})\Z")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(\S+) *\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z")


class Scope(StrEnum):
    """What a token permits. `upload` and `manage` are kept by the origin, `view` and `operate` by control."""

    UPLOAD = "upload"  # begin uploads, and go on with one's own
    MANAGE = "manage"  # besides: everybody's uploads and videos
    VIEW = "view"  # read control's state
    OPERATE = "operate"  # besides: change it


ORIGIN_SCOPES: Final = frozenset({Scope.UPLOAD, Scope.MANAGE})
CONTROL_SCOPES: Final = frozenset({Scope.VIEW, Scope.OPERATE})
IMPLIED: Final = {Scope.MANAGE: frozenset({Scope.UPLOAD}), Scope.OPERATE: frozenset({Scope.VIEW})}


class TokenRefusal(StrEnum):
    """Why a token does not permit a request."""

    MISSING = "token-missing"
    MALFORMED = "token-malformed"
    UNKNOWN = "token-unknown"  # no such id, or another secret: the two are not told apart
    REVOKED = "token-revoked"
    EXPIRED = "token-expired"
    SCOPE = "token-scope"

    @property
    def status(self) -> int:
        """RFC 6750 section 3.1."""
        return 403 if self is TokenRefusal.SCOPE else 401

    @property
    def heading(self) -> str:
        return _HEADINGS[self]


_HEADINGS: Final = {
    TokenRefusal.MISSING: "API token missing",
    TokenRefusal.MALFORMED: "API token malformed",
    TokenRefusal.UNKNOWN: "API token unknown",
    TokenRefusal.REVOKED: "API token revoked",
    TokenRefusal.EXPIRED: "API token expired",
    TokenRefusal.SCOPE: "API token without the scope",
}


class TokenRefused(Exception):
    """`detail` says what would mend it; `needed` is the scope that the request takes."""

    def __init__(self, refusal: TokenRefusal, needed: Scope, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.needed = needed
        self.detail = detail

    @property
    def challenge(self) -> str:
        """The WWW-Authenticate field (RFC 6750 section 3); without an error code for who showed no token at all."""
        if self.refusal is TokenRefusal.MISSING:
            return f'Bearer realm="{REALM}", scope="{self.needed}"'
        error = "insufficient_scope" if self.refusal is TokenRefusal.SCOPE else "invalid_token"
        return f'Bearer realm="{REALM}", scope="{self.needed}", error="{error}", error_description="{self.refusal.heading}"'


class InvalidToken(ValueError):
    """A text, a name or a set of scopes is none that a token can have; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as its owner has it."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        return f"hw_{self.id}_{self.secret}"

    @property
    def secret_sha256(self) -> str:
        return hashlib.sha256(self.secret.encode("ascii")).hexdigest()

    def __repr__(self) -> str:
        return f"ApiToken(id={self.id!r})"  # logs and test output get no secret


@dataclass(frozen=True, slots=True)
class StoredToken:
    """What its keeper knows of it. `name` says whose it is: a creator may have several. Times are Unix seconds."""

    id: str
    name: str
    secret_sha256: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def permits(self, needed: Scope) -> bool:
        return needed in self.scopes or any(needed in IMPLIED.get(scope, frozenset()) for scope in self.scopes)


def draw_token(random: bytes) -> ApiToken:
    """The token of DRAWN_BYTES random bytes, which the caller draws."""
    if len(random) != DRAWN_BYTES:
        raise InvalidToken(f"a token is made of {DRAWN_BYTES} bytes, not {len(random)}")
    secret = base64.urlsafe_b64encode(random[ID_BYTES:]).rstrip(b"=").decode("ascii")
    return ApiToken(random[:ID_BYTES].hex(), secret)


def parse_token(text: str) -> ApiToken:
    """Raises InvalidToken."""
    match = _TOKEN.match(text.strip())
    if match is None:
        raise InvalidToken("a token is hw_, 12 hex digits, _ and 43 characters; copy it whole, as it was shown when it was made")
    return ApiToken(match[1], match[2])


def parse_name(text: str) -> str:
    """Whose token it is. Raises InvalidToken."""
    if not _NAME.match(text):
        raise InvalidToken(
            f"{text[:70]!r} is no name: 1 to 64 letters, digits and . _ @ + - were expected, a letter or digit first"
        )
    return text


def parse_scopes(texts: Iterable[str], known: frozenset[Scope] = ORIGIN_SCOPES | CONTROL_SCOPES) -> frozenset[Scope]:
    """Raises InvalidToken for none, unknown ones, and a mixture that no one keeper could keep."""
    wanted = set(texts)
    if not wanted or not wanted <= {scope.value for scope in known}:
        raise InvalidToken(f"scopes are one or more of {', '.join(sorted(known))}")
    scopes = frozenset(Scope(text) for text in wanted)
    if not (scopes <= ORIGIN_SCOPES or scopes <= CONTROL_SCOPES):
        raise InvalidToken("upload and manage are kept by the origin, view and operate by control: make two tokens")
    return scopes


def bearer_token(authorization: str | None, needed: Scope) -> ApiToken:
    """The token in an Authorization field. Raises TokenRefused."""
    if not authorization:
        detail = f"this needs a token with the scope {needed}: send it as `Authorization: Bearer hw_…`; {_how_to_get(needed)}"
        raise TokenRefused(TokenRefusal.MISSING, needed, detail)
    match = _BEARER.match(authorization)
    try:
        return parse_token(match[1] if match else "")
    except InvalidToken as error:
        detail = f"`Authorization: Bearer hw_…` was expected: {error}"
        raise TokenRefused(TokenRefusal.MALFORMED, needed, detail) from error


def check_token(token: ApiToken, stored: StoredToken | None, needed: Scope, now: float) -> StoredToken:
    """The stored token if `token` is it and permits `needed` at `now`. Raises TokenRefused.

    Whoever has not the secret learns nothing else: that is looked at first.
    """
    if stored is None or not hmac.compare_digest(stored.secret_sha256, token.secret_sha256):
        raise TokenRefused(TokenRefusal.UNKNOWN, needed, f"this token is not known here; {_how_to_get(needed)}")
    return check_kept(token.id, stored, needed, now)


def check_kept(token_id: str, stored: StoredToken | None, needed: Scope, now: float) -> StoredToken:
    """As `check_token`, for what was given to a token whose secret was shown then. Raises TokenRefused."""
    if stored is None:
        raise TokenRefused(TokenRefusal.UNKNOWN, needed, f"token {token_id} is not known here; {_how_to_get(needed)}")
    if stored.revoked_at is not None:
        raise TokenRefused(TokenRefusal.REVOKED, needed, f"token {token_id} was revoked; {_how_to_get(needed)}")
    if stored.expires_at is not None and now >= stored.expires_at:
        raise TokenRefused(TokenRefusal.EXPIRED, needed, f"token {token_id} has expired; {_how_to_get(needed)}")
    if not stored.permits(needed):
        has = ", ".join(sorted(stored.scopes))
        detail = f"token {token_id} has the scope {has}, this needs {needed}; {_how_to_get(needed)}"
        raise TokenRefused(TokenRefusal.SCOPE, needed, detail)
    return stored


def _how_to_get(needed: Scope) -> str:
    file = "tokens/creator" if needed in ORIGIN_SCOPES else "tokens/operator"
    return f"`headwater tokens create NAME --scope {needed}` makes one, a lab's own is in the file {file} of its data folder"
