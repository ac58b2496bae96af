"""Pre-signed part URLs of the local object store: sign and check. Pure.

    {base}/objects/uploads/{upload_id}/{number}?size={bytes}&expires={unix seconds}[&token={id}]&signature={base64url}

The signature is HMAC-SHA256 over "headwater-part\\n{upload_id}\\n{number}\\n{size}\\n{expires}\\n{token}"; it names its context
so that no other signature made with the same secret could stand in for it. `token` is the id of the API token that the URL was
given to, with which it ends; a URL of a deployment that requires none has none.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PATH_PREFIX: Final = "/objects/uploads/"
_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,15})\Z")


class LinkRefusal(StrEnum):
    """Why a part URL is refused; also the problem's type and the metric's label."""

    MALFORMED = "url-malformed"
    SIGNATURE_WRONG = "signature-wrong"
    EXPIRED = "url-expired"


class LinkRefused(Exception):
    def __init__(self, refusal: LinkRefusal, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail


@dataclass(frozen=True, slots=True)
class PartLink:
    """What a part URL permits: one PUT of exactly `size_bytes` until `expires_at` (Unix seconds), while the token holds."""

    upload_id: str
    number: int
    size_bytes: int
    expires_at: int
    token_id: str | None = None

    def url(self, base: str, secret: bytes) -> str:
        token = f"&token={self.token_id}" if self.token_id is not None else ""
        query = f"size={self.size_bytes}&expires={self.expires_at}{token}&signature={self._signature(secret)}"
        return f"{base}{PATH_PREFIX}{self.upload_id}/{self.number}?{query}"

    def _signature(self, secret: bytes) -> str:
        said = (self.upload_id, self.number, self.size_bytes, self.expires_at, self.token_id or "")
        message = "\n".join(["headwater-part", *map(str, said)]).encode()
        return base64.urlsafe_b64encode(hmac.digest(secret, message, "sha256")).rstrip(b"=").decode("ascii")


def check_link(
    upload_id: str,
    number: str,
    size: str | None,
    expires: str | None,
    token_id: str | None,
    signature: str | None,
    secret: bytes,
    now: float,
) -> PartLink:
    """The link that a request's parts say, if it was signed with `secret` and holds at `now`. Raises LinkRefused."""
    if not _UPLOAD_ID.match(upload_id) or not (number and size and expires and signature):
        raise LinkRefused(LinkRefusal.MALFORMED, "use the part's URL as it was given, with size, expires and signature")
    if not all(_NUMBER.match(text) for text in (number, size, expires)):
        raise LinkRefused(LinkRefusal.MALFORMED, "number, size and expires are whole numbers; use the URL as it was given")
    link = PartLink(upload_id, int(number), int(size), int(expires), token_id)
    if not hmac.compare_digest(link._signature(secret).encode(), signature.encode("utf-8", "replace")):
        raise LinkRefused(LinkRefusal.SIGNATURE_WRONG, "the signature does not fit this URL; use the URL as it was given")
    if now >= link.expires_at:
        raise LinkRefused(LinkRefusal.EXPIRED, f"the URL expired {now - link.expires_at:.0f} s ago; ask for the upload again")
    return link
