"""What a player needs of HLS playlists (RFC 8216), with absolute URLs. Pure; the parsing itself is the m3u8 package's."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin

import m3u8

from loadtest.failures import Cause, RequestFailed


@dataclass(frozen=True, slots=True)
class Rung:
    """One variant: its playlist, its audio playlist (None: audio is inside), its peak bit rate."""

    url: str
    audio_url: str | None
    bandwidth_bps: int
    name: str


@dataclass(frozen=True, slots=True)
class Segment:
    """`init_url` is its header (RFC 8216 section 4.3.2.5); `start_s` counts from the start of the playlist."""

    url: str
    init_url: str | None
    start_s: float
    duration_s: float


def read_master(text: str, url: str) -> tuple[Rung, ...]:
    """The variants by rising bit rate. A playlist that is itself a media playlist is one rung. Raises RequestFailed."""
    playlist = _parsed(text, url)
    if playlist.segments:
        return (Rung(url, None, 0, _rung_name(url)),)
    audio = {media.group_id: urljoin(url, media.uri) for media in reversed(playlist.media) if media.type == "AUDIO" and media.uri}
    rungs = [
        Rung(
            url=urljoin(url, variant.uri),
            audio_url=audio.get(variant.stream_info.audio),
            bandwidth_bps=int(variant.stream_info.bandwidth),
            name=_rung_name(variant.uri),
        )
        for variant in playlist.playlists
    ]
    if not rungs:
        raise RequestFailed(Cause.NOT_A_PLAYLIST, f"{url} names no variant and no segment", again=False)
    return tuple(sorted(rungs, key=lambda rung: rung.bandwidth_bps))


def read_media(text: str, url: str) -> tuple[Segment, ...]:
    """The segments, in order; at least one. Raises RequestFailed."""
    playlist = _parsed(text, url)
    segments: list[Segment] = []
    start_s = 0.0
    for part in playlist.segments:
        init_url = urljoin(url, part.init_section.uri) if part.init_section is not None else None
        segments.append(Segment(urljoin(url, part.uri), init_url, start_s, float(part.duration)))
        start_s += float(part.duration)
    if not segments:
        raise RequestFailed(Cause.NOT_A_PLAYLIST, f"{url} has no segment", again=False)
    return tuple(segments)


def segment_at(segments: tuple[Segment, ...], moment_s: float) -> int:
    """Index of the segment that holds `moment_s`; the last one for moments beyond."""
    for index, segment in enumerate(segments):
        if moment_s < segment.start_s + segment.duration_s - 1e-6:
            return index
    return len(segments) - 1


def _rung_name(url: str) -> str:
    """`h264/720p` of `…/h264/720p/playlist.m3u8`."""
    return "/".join(url.split("?")[0].split("/")[-3:-1]) or url


def _parsed(text: str, url: str) -> m3u8.M3U8:
    if not text.lstrip("\ufeff").startswith("#EXTM3U"):
        raise RequestFailed(Cause.NOT_A_PLAYLIST, f"{url} does not begin with #EXTM3U", again=False)
    try:
        return m3u8.loads(text)
    except (ValueError, m3u8.ParseError, AttributeError, KeyError, IndexError) as error:
        raise RequestFailed(Cause.NOT_A_PLAYLIST, f"{url}: {error!r}", again=False) from error
