"""Object keys reach file paths and URLs, so their grammar is narrow: segments of letters, digits, `.`, `_` and `-`."""

from __future__ import annotations

import re
from typing import Final

from origin.objects.interface import InvalidKey

# Video ids may begin with `-` or `_`; nothing begins with `.`, so neither `..` nor hidden files can be named.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*\Z")
_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
MAX_KEY_CHARS: Final = 512
MAX_SEGMENT_CHARS: Final = 200  # file systems allow 255 bytes; name files and drafts add a little


def check_key(key: str) -> str:
    """`key`. Raises InvalidKey when it is absolute, empty, hidden, too long or has odd characters."""
    if len(key) > MAX_KEY_CHARS or not _KEY.match(key) or any(len(part) > MAX_SEGMENT_CHARS for part in key.split("/")):
        raise InvalidKey(f"{key[:80]!r} is not an object key: segments of letters, digits, '.', '_' and '-' joined by '/'")
    return key


def check_prefix(prefix: str) -> str:
    """A key's beginning, possibly ending with `/`, possibly empty. Raises InvalidKey."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def check_upload_id(upload_id: str) -> str:
    """`upload_id`. Raises InvalidKey: upload ids name folders."""
    if not _UPLOAD_ID.match(upload_id):
        raise InvalidKey(f"{upload_id[:80]!r} is not an upload id: at most 64 letters, digits, '-' and '_' were expected")
    return upload_id
