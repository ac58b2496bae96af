"""The paths under which a video's files live: in object keys and, behind a grant, in URLs. One grammar for both.

videos/{video_id}/master.m3u8 | manifest.mpd | poster.jpg | storyboard.vtt | storyboard_000.jpg
videos/{video_id}/{codec}/{rung}/init.mp4 | playlist.m3u8 | iframes.m3u8 | segment_00042.m4s
"""

from __future__ import annotations

from typing import Final

from headwater.rules.names import InvalidName, VideoId, parse_video_id

MASTER_PLAYLIST: Final = "master.m3u8"
DASH_MANIFEST: Final = "manifest.mpd"
POSTER: Final = "poster.jpg"
STORYBOARD_INDEX: Final = "storyboard.vtt"
INIT: Final = "init.mp4"
MEDIA_PLAYLIST: Final = "playlist.m3u8"
IFRAME_PLAYLIST: Final = "iframes.m3u8"

CONTENT_TYPES: Final = {
    "m3u8": "application/vnd.apple.mpegurl",
    "mpd": "application/dash+xml",
    "mp4": "video/mp4",
    "m4s": "video/iso.segment",
    "jpg": "image/jpeg",
    "vtt": "text/vtt; charset=utf-8",
}


def video_prefix(video_id: VideoId) -> str:
    """The object key prefix of everything published for a video; a grant for the video covers `/` + this."""
    return f"videos/{video_id}/"


def path_video(path: str) -> VideoId | None:
    """The video under whose prefix a path (without its first slash) lies, or None."""
    folder, _, rest = path.partition("/")
    video_id, slash, _ = rest.partition("/")
    if folder != "videos" or not slash:
        return None
    try:
        return parse_video_id(video_id)
    except InvalidName:
        return None


def video_key(video_id: VideoId, name: str) -> str:
    return f"{video_prefix(video_id)}{name}"


def rung_key(video_id: VideoId, codec: str, rung: str, name: str) -> str:
    return f"{video_prefix(video_id)}{codec}/{rung}/{name}"


def segment_name(number: int) -> str:
    """Segments count from 0: `segment_00000.m4s`."""
    return f"segment_{number:05d}.m4s"


def content_type_of(name: str) -> str:
    return CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
