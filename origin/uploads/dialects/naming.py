"""From what a client says of its file to a video's row. Nothing is refused for its name: it is cut and cleaned. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Final

from headwater.rules.names import VideoId
from origin.catalogue.ledger import NewVideo

MAX_TITLE: Final = 200
MAX_DESCRIPTION: Final = 5000
MAX_FILENAME: Final = 255
MAX_TAGS: Final = 32
MAX_TAG: Final = 64
BYTES: Final = "application/octet-stream"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63}\Z")


def video_maker(
    size_bytes: int,
    *,
    title: str | None = None,
    filename: str | None = None,
    content_type: str | None = None,
    description: str | None = None,
    tags: Iterable[str] = (),
) -> Callable[[VideoId], NewVideo]:
    """Makes the row for an id. A file without a title is called after itself; `size_bytes` is 0 while it is not known."""
    name = _line(filename or "", MAX_FILENAME)
    shown = _line(title or "", MAX_TITLE) or _line(PurePosixPath(name).stem, MAX_TITLE) or "Untitled"
    said = _CONTROL.sub("", description or "").strip()[:MAX_DESCRIPTION]
    kept = tuple(dict.fromkeys(tag for tag in (_line(tag, MAX_TAG) for tag in tags) if tag))[:MAX_TAGS]
    media_type = (content_type or "").partition(";")[0].strip()
    kind = media_type if _MEDIA_TYPE.match(media_type) else BYTES

    def video(video_id: VideoId) -> NewVideo:
        return NewVideo(video_id, shown, said, kept, name or "upload", kind, size_bytes)

    return video


def _line(text: str, most: int) -> str:
    return " ".join(_CONTROL.sub("", text).split())[:most].strip()
