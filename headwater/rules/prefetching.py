"""What a viewer will ask next, and whether it may be fetched before. Pure; times are seconds of any clock that only grows.

A player that speaks CMCD (CTA-5004) names its next object itself: `nor`, a percent-encoded path relative to the object asked
for, in the query's CMCD parameter or in the header CMCD-Request. Of others the segment's number tells it, and the media playlist,
where it is at hand, which segments there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final
from urllib.parse import unquote, urljoin

from headwater.rules.fields import Fields, field
from headwater.rules.mediapath import MEDIA_PLAYLIST, path_video, segment_name
from headwater.rules.structured import parse_dictionary

CMCD_PARAMETER: Final = "CMCD"
CMCD_HEADER: Final = "cmcd-request"
BURST_S: Final = 2.0  # of the bandwidth may be taken at once: a segment is seconds of media
_SEGMENT = re.compile(r"(/videos/[^/]+/[^/]+/[^/]+/)segment_([0-9]{5,9})\.m4s")


class Skipped(StrEnum):
    """Why an object that a viewer will want is not fetched ahead; also the metric's label."""

    REFUSED = "refused"  # the viewer's grant does not cover it, or it is of another video or site
    BUDGET = "budget"  # the bandwidth of `cache.prefetch` is used up
    BUSY = "busy"  # viewers' own fills need the connections, or enough is being fetched ahead


def next_named(query: str, fields: Fields) -> str | None:
    """What the player says that it will ask for next, as a relative reference; None when it says nothing."""
    payloads = [unquote(value) for name, _, value in _parameters(query) if name == CMCD_PARAMETER]
    header = field(fields, CMCD_HEADER)
    for payload in (*payloads, *(() if header is None else (header,))):
        named = (parse_dictionary(payload) or {}).get("nor")
        if isinstance(named, str) and named:
            return unquote(named)
    return None


def resolved(named: str, target_path: str, object_path: str) -> str | None:
    """The path of the object that `named` means beside the one asked for, whose path stands at the end of the target's (a grant
    may stand before it). None: another host, not of the same video, or no reference at all."""
    before = target_path[: len(target_path) - len(object_path)]
    try:
        whole = urljoin(f"http://here{target_path}", named)
    except ValueError:
        return None
    path = whole.removeprefix("http://here")
    if path == whole or not path.startswith(f"{before}/") or "?" in path or "#" in path:
        return None
    path = path[len(before) :]
    video = path_video(path[1:])
    return path if video is not None and video == path_video(object_path[1:]) and path != object_path else None


def playlist_of(path: str) -> str | None:
    """The media playlist beside a segment; None when the path is no segment's."""
    match = _SEGMENT.fullmatch(path)
    return None if match is None else f"{match[1]}{MEDIA_PLAYLIST}"


def following(path: str, ahead: int, playlist: str | None) -> tuple[str, ...]:
    """The next `ahead` segments of the same rung: as the playlist lists them, never beyond its end; without one by number."""
    match = _SEGMENT.fullmatch(path)
    if match is None:
        return ()
    folder, number = match[1], int(match[2])
    if playlist is None:
        return tuple(f"{folder}{segment_name(number + n)}" for n in range(1, ahead + 1))
    lines = playlist.splitlines()
    name = path.removeprefix(folder)
    if name not in lines:
        return ()
    listed = [line for line in lines[lines.index(name) + 1 :] if line and not line.startswith("#")]
    return tuple(f"{folder}{line}" for line in listed[:ahead] if "/" not in line)


def without_cmcd(query: str) -> str:
    """The query as it names an object: CMCD is about the player, and differs from request to request (CTA-5004 section 2)."""
    if CMCD_PARAMETER not in query:
        return query
    return "&".join(name + equals + value for name, equals, value in _parameters(query) if name != CMCD_PARAMETER or not equals)


def _parameters(query: str) -> Iterable[tuple[str, str, str]]:
    return (pair.partition("=") for pair in query.split("&"))


class Budget:
    """Bits per second, on average: what was fetched pushes the moment away from which more may be."""

    def __init__(self, bandwidth_bps: float) -> None:
        self._bandwidth_bps = bandwidth_bps
        self._free_at_s = 0.0

    def allows(self, now_s: float) -> bool:
        return self._free_at_s <= now_s + BURST_S

    def took(self, size_bytes: int, now_s: float) -> None:
        self._free_at_s = max(self._free_at_s, now_s) + size_bytes * 8 / self._bandwidth_bps


def may_begin(running_fills: int, running_ahead: int, connections: int, at_once: int) -> bool:
    """Whether one more fetch may begin beside those of viewers: these keep half of the connections to a parent."""
    return running_ahead < at_once and running_fills < max(1, connections // 2)
