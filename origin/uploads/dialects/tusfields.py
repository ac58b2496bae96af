"""Header fields of tus 1.0.0 (https://tus.io/protocols/resumable-upload). Pure; a ValueError says what was expected."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headwater.rules.names import VideoId, parse_video_id
from origin.catalogue.schema import Form
from origin.uploads.streams import Checksum

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination,concatenation"
ALGORITHMS: Final = ("sha1", "sha256", "md5", "sha512")
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,17})\Z")
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+\Z")


@dataclass(frozen=True, slots=True)
class Concat:
    """What a creation wants: a piece, or a video made of pieces."""

    form: Form
    pieces: tuple[VideoId, ...] = ()


def number(text: str | None) -> int:
    """A count of bytes."""
    if text is None or not _NUMBER.match(text.strip()):
        raise ValueError("a whole number of bytes")
    return int(text)


def metadata(text: str) -> dict[str, str]:
    """Upload-Metadata: `key base64, key base64`; what is no UTF-8 is read as well as it can be."""
    found: dict[str, str] = {}
    for pair in filter(None, (one.strip() for one in text.split(","))):
        key, _, value = pair.partition(" ")
        if not _KEY.match(key):
            raise ValueError("`key base64` pairs with commas between them")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
        except binascii.Error:
            raise ValueError(f"base64 after the key {key!r}") from None
    return found


def first_of(said: Mapping[str, str], *names: str) -> str | None:
    """The first of these keys that is there: clients agree on the protocol, not on the names."""
    return next((said[name] for name in names if said.get(name)), None)


def checksum(text: str | None) -> Checksum | None:
    """Upload-Checksum: `algorithm base64`."""
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"one of the algorithms {', '.join(ALGORITHMS)}")
    try:
        return Checksum(algorithm, base64.b64decode(value.strip(), validate=True))
    except binascii.Error:
        raise ValueError("base64 after the algorithm") from None


def concat(text: str | None) -> Concat:
    """Upload-Concat: `partial`, or `final;` and the pieces' URLs."""
    if text is None:
        return Concat(Form.WHOLE)
    if text.strip() == "partial":
        return Concat(Form.PIECE)
    kind, _, urls = text.strip().partition(";")
    pieces = tuple(parse_video_id(url.rstrip("/").rpartition("/")[2]) for url in urls.split())
    if kind != "final" or not pieces:
        raise ValueError("`partial`, or `final;` and the URLs of the pieces with spaces between them")
    return Concat(Form.JOINED, pieces)
