"""Header fields of Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload), read and written. Pure.

Items are structured fields (RFC 9651): what is not of the right type makes the field void, as if it were not there.
"""

from __future__ import annotations

import re
from typing import Final

INTEROP_VERSION: Final = "8"
PROBLEMS: Final = "https://iana.org/assignments/http-problem-types#"
_PARAMETERS = r"(?:;[^;]*)*"
_BOOLEAN = re.compile(rf" *\?([01]){_PARAMETERS} *\Z")
_INTEGER = re.compile(rf" *([0-9]{{1,15}}){_PARAMETERS} *\Z")
_FILENAME_STAR = re.compile(r"filename\*=(?:UTF-8|utf-8)'[^']*'([^;]+)")
_FILENAME = re.compile(r'filename="((?:[^"\\]|\\.)*)"|filename=([^;"\s]+)')


def boolean(text: str | None) -> bool | None:
    match = _BOOLEAN.match(text) if text is not None else None
    return match[1] == "1" if match else None


def integer(text: str | None) -> int | None:
    match = _INTEGER.match(text) if text is not None else None
    return int(match[1]) if match else None


def upload_limit(max_size_bytes: int, max_age_s: float | None = None) -> str:
    age = f", max-age={max(0, int(max_age_s))}" if max_age_s is not None else ""
    return f"max-size={max_size_bytes}{age}"


def filename(disposition: str | None) -> str | None:
    """The name in Content-Disposition (RFC 6266): the extended form counts first."""
    if disposition is None:
        return None
    if (extended := _FILENAME_STAR.search(disposition)) is not None:
        return _percent_decoded(extended[1].strip())
    match = _FILENAME.search(disposition)
    return (re.sub(r"\\(.)", r"\1", match[1]) if match[1] is not None else match[2]) if match else None


def _percent_decoded(text: str) -> str:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode("latin-1", "replace")).decode(
        "utf-8", "replace"
    )
