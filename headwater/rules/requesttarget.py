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
_ALLOWED = re.compile(r"[A-Za-z0-9/_.~!$&'()*+,;=:@%-]*\Z")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# A slash or backslash that only appears after decoding moves the boundary that a grant's prefix stands on.
_NEVER_ENCODED = frozenset(b"/\\") | frozenset(range(0x20)) | {0x7F}


class TargetRefusal(StrEnum):
    TOO_LONG = "target_too_long"
    NOT_A_PATH = "target_not_a_path"
    BAD_CHARACTER = "target_bad_character"
    BAD_ESCAPE = "target_bad_escape"
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
    segments = path.split("/")[1:]
    if any(segment in (".", "..") for segment in segments):
        raise BadTarget(TargetRefusal.DOT_SEGMENT, "the path holds a '.' or '..' segment")
    if any(not segment for segment in segments[:-1]):
        raise BadTarget(TargetRefusal.EMPTY_SEGMENT, "the path holds an empty segment ('//')")
    return Target(path, query)


def _normal_escape(match: re.Match[str]) -> str:
    if match[1] is None:
        raise BadTarget(TargetRefusal.BAD_ESCAPE, "the path holds a '%' that begins no escape")
    byte = int(match[1], 16)
    if byte in _NEVER_ENCODED:
        raise BadTarget(TargetRefusal.BAD_ESCAPE, f"the path holds an encoded slash or control byte (%{byte:02X})")
    return chr(byte) if byte in _UNRESERVED else f"%{byte:02X}"
