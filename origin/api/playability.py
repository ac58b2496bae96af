"""Whether a video plays, and where from. Pure: times are Unix seconds, durations seconds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from headwater.rules.mediapath import DASH_MANIFEST, MASTER_PLAYLIST, POSTER, STORYBOARD_INDEX, video_key, video_prefix
from headwater.rules.names import VideoId
from headwater.rules.steering import SteeredEdge
from headwater.settings.edgeurl import EdgeUrl
from origin.catalogue.schema import VideoState
from origin.catalogue.videos import Video
from signer.grant import Grant, GrantToken, KeyId

NETWORK_BITS = {4: 24, 6: 48}  # what a home or office keeps while its addresses change


class PlaybackStatus(StrEnum):
    PLAYABLE = "playable"
    UPLOADING = "uploading"
    PROCESSING = "processing"
    FAILED = "failed"


class Via(StrEnum):
    """What playback URLs name: the edge's address, or the logical host that DNS maps to edges."""

    ADDRESS = "address"
    DNS = "dns"


@dataclass(frozen=True, slots=True)
class Playability:
    """`reason` says why a video does not play; None when it does."""

    status: PlaybackStatus
    reason: str | None


@dataclass(frozen=True, slots=True)
class MediaUrls:
    """Signed URLs under one grant; None for what the video does not have."""

    hls: str | None
    dash: str | None
    poster: str | None
    storyboard: str | None


def playability(video: Video) -> Playability:
    match video.state:
        case VideoState.READY:
            return Playability(PlaybackStatus.PLAYABLE, None)
        case VideoState.UPLOADING:
            return Playability(PlaybackStatus.UPLOADING, "the upload is not complete yet")
        case VideoState.PROCESSING:
            reason = f"the video is being transcoded ({video.progress:.0%}); it plays once its first seconds are made"
            return Playability(PlaybackStatus.PROCESSING, reason)
        case VideoState.FAILED:
            failure = video.failure
            reason = f"{failure.kind}: {failure.detail}" if failure else "the video failed and no reason was recorded"
            return Playability(PlaybackStatus.FAILED, reason)


def grant_expiry(now: float, lifetime_s: float, duration_s: float | None) -> int:
    """Whoever begins to play within `lifetime_s` also sees the end: the grant lives for the lifetime and the video's length."""
    return math.ceil(now + lifetime_s + (duration_s or 0.0))


def video_grant(video_id: VideoId, key_id: KeyId, expires_at: int, network: IPv4Network | IPv6Network | None = None) -> Grant:
    """Covers everything published for the video."""
    return Grant(key_id=key_id, expires_at=expires_at, prefix=f"/{video_prefix(video_id)}", network=network)


def viewers_network(client: IPv4Address | IPv6Address) -> IPv4Network | IPv6Network:
    """The network that a bound grant names."""
    if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    return ip_network((client, NETWORK_BITS[client.version]), strict=False)


def without_avoided(ranked: Sequence[SteeredEdge], avoid: Collection[str]) -> tuple[SteeredEdge, ...]:
    """The edges that the client did not complain about; all of them when it complained about all."""
    return tuple(edge for edge in ranked if edge.name not in avoid) or tuple(ranked)


def base_url(door: EdgeUrl, via: Via, host: str) -> str:
    """What stands before the grant. Edges have one port in common, so the logical host takes that of the best edge's door."""
    return str(door if via is Via.ADDRESS else replace(door, host=host))


def media_url(base: str, token: GrantToken, video_id: VideoId, name: str) -> str:
    return f"{base}/{token}/{video_key(video_id, name)}"


def media_urls(base: str, token: GrantToken, video: Video) -> MediaUrls:
    """A poster may be there before the video plays; manifests never are."""
    ready = video.state is VideoState.READY

    def url(name: str, there: bool) -> str | None:
        return media_url(base, token, video.id, name) if there else None

    return MediaUrls(
        hls=url(MASTER_PLAYLIST, ready),
        dash=url(DASH_MANIFEST, ready),
        poster=url(POSTER, video.has_poster),
        storyboard=url(STORYBOARD_INDEX, video.has_storyboard),
    )
