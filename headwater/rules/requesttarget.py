"""The request target, read strictly: one spelling per object, so that a key, a grant and a parent all mean the same path.

Anything that two hops could read differently is refused here: dot segments, empty segments, encoded slashes, control bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_TARGET_CHARS: Final = 4096
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
# UTF-8's forbidden longer spellings, with which `..` and `/` were once written past checks. Escapes are in upper case by then.
_OVERLONG = re.compile(r"%C[01]%[89AB]|%E0%[89]|%F0%8")
_ALLOWED = re.compile(r"[A-Za-z0-9/_.~!$&'()*+,;=:@%-]*\Z")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# A slash or backslash that only appears after decoding moves the boundary that a grant's prefix stands on.
_NEVER_ENCODED = frozenset(b"/\\") | frozenset(range(0x20)) | {0x7F}


class TargetRefusal(StrEnum):
    TOO_LONG = "target_too_long"
    NOT_A_PATH = "target_not_a_path"
    BAD_CHARACTER = "target_bad_character"
    BAD_ESCAPE = "target_bad_escape"
    OTHER_HOST = "target_other_host"
    DOT_SEGMENT = "target_dot_segment"
    EMPTY_SEGMENT = "target_empty_segment"


class BadTarget(ValueError):
    """The request target cannot be served. `refusal` is the word for logs and metrics."""

    def __init__(self, refusal: TargetRefusal, detail: str) -> None:
        super().__init__(detail)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Target:
    """`path` is normalised: escapes of unreserved characters decoded, other escapes in upper case (RFC 3986 section 6.2.2)."""

    path: str
    query: str


def origin_form(raw: str, host: str | None) -> str:
    """The target without scheme and authority, where it is in absolute form (RFC 9112 section 3.2.2). Raises BadTarget.

    The authority must be what `host`, the Host field, says: the RFC lets a server ignore the field, but not every one does.
    """
    match = _ABSOLUTE.match(raw)
    if match is None:
        return raw
    if host is None or match[1].lower() != host.strip().lower():
        raise BadTarget(TargetRefusal.OTHER_HOST, "the request target names another host than the Host field")
    path = raw[match.end() :]
    return path if path.startswith("/") else f"/{path}"


def parse_target(raw: str) -> Target:
    """The path and query of an origin-form target (RFC 9112 section 3.2.1). Raises BadTarget."""
    if len(raw) > MAX_TARGET_CHARS:
        raise BadTarget(TargetRefusal.TOO_LONG, f"the request target is longer than {MAX_TARGET_CHARS} characters")
    path, _, query = raw.partition("?")
    if not path.startswith("/"):
        raise BadTarget(TargetRefusal.NOT_A_PATH, "the request target is no absolute path")
    if not _ALLOWED.match(path) or not query.isprintable() or not query.isascii():
        raise BadTarget(TargetRefusal.BAD_CHARACTER, "the request target holds a character that must be percent-encoded")
    path = _ESCAPE.sub(_normal_escape, path)
    if _OVERLONG.search(path):
        raise BadTarget(TargetRefusal.BAD_ESCAPE, "the path holds an overlong form of a character (RFC 3629 section 3)")
    # Some servers drop parameters (`;...`, RFC 3986 section 3.3) before they resolve dots.
    if "/." in path and any(segment.partition(";")[0] in (".", "..") for segment in path.split("/")):
        raise BadTarget(TargetRefusal.DOT_SEGMENT, "the path holds a '.' or '..' segment")
    if "//" in path:
        raise BadTarget(TargetRefusal.EMPTY_SEGMENT, "the path holds an empty segment ('//')")
    return Target(path, query)


def _normal_escape(match: re.Match[str]) -> str:
    if match[1] is None:
        raise BadTarget(TargetRefusal.BAD_ESCAPE, "the path holds a '%' that begins no escape")
    byte = int(match[1], 16)
    if byte in _NEVER_ENCODED:
        raise BadTarget(TargetRefusal.BAD_ESCAPE, f"the path holds an encoded slash or control byte (%{byte:02X})")
    return chr(byte) if byte in _UNRESERVED else f"%{byte:02X}"
