"""The names that tie a video's row, objects, cache keys and DNS names together.

A *video id* is 64 random bits as 11 characters of URL-safe base64. Its *bucket* is one of 4096 logical servers: the first
three hex digits of `sha256(video_id)`. The *logical host* `v{bucket}.{zone}` is the DNS name the video lives under.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NewType

VideoId = NewType("VideoId", str)
Bucket = NewType("Bucket", int)

BUCKETS = 4096
VIDEO_ID_BYTES = 8
# 64 bits fill ten characters and four bits of the eleventh, whose two low bits are therefore zero.
_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]\Z")
_HOST_LABEL = re.compile(r"v([0-9a-f]{3})\Z")


class InvalidName(ValueError):
    """A string is not the name it was given as. The message says what was expected."""


def video_id_from_bits(bits: bytes) -> VideoId:
    """The id of 8 random bytes (the caller draws them)."""
    if len(bits) != VIDEO_ID_BYTES:
        raise InvalidName(f"a video id is made of {VIDEO_ID_BYTES} bytes, not {len(bits)}")
    return VideoId(base64.urlsafe_b64encode(bits).rstrip(b"=").decode("ascii"))


def parse_video_id(text: str) -> VideoId:
    """`text` as a video id. Raises InvalidName: ids reach file paths and DNS names, so nothing else may pass."""
    if not _VIDEO_ID.match(text):
        raise InvalidName(f"{text[:40]!r} is not a video id: 11 characters of URL-safe base64 were expected")
    return VideoId(text)


def bucket_of(video_id: VideoId) -> Bucket:
    """The logical server, 0 to 4095, that this video lives on."""
    return Bucket(int(hashlib.sha256(video_id.encode("ascii")).hexdigest()[:3], 16))


def logical_host(bucket: Bucket, zone: str) -> str:
    """`v3fa.cdn.test` for bucket 0x3fa in zone `cdn.test`."""
    return f"v{bucket:03x}.{zone}"


def bucket_of_host(host: str, zone: str) -> Bucket | None:
    """The bucket that a host name stands for, or None when it is no logical host of `zone`. Case does not matter."""
    label, _, rest = host.lower().partition(".")
    match = _HOST_LABEL.match(label)
    return Bucket(int(match[1], 16)) if match and rest == zone.lower() else None
