"""The shapes of the API's answers. Pure; times are Unix seconds, sizes bytes."""

from __future__ import annotations

from typing import Any

from headwater.rules.steering import SteeredEdge
from origin.api.playability import Playability, PlaybackStatus
from origin.api.playback import Route
from origin.catalogue.schema import VideoState
from origin.catalogue.videos import Rendition, Video
from origin.uploads.intake import PartState, UploadState

Json = dict[str, Any]


def upload_answer(state: UploadState) -> Json:
    return {
        "part_size": state.part_size_bytes,
        "parts": [_part(part) for part in state.parts],
        "expires_at": state.expires_at,
    }


def _part(part: PartState) -> Json:
    return {
        "number": part.number,
        "size": part.size_bytes,
        "url": part.url,
        "headers": dict(part.headers),
        "arrived": part.arrived,
        "sha256": part.sha256,
    }


def video_answer(video: Video, route: Route | None) -> Json:
    """One video in full. `route` may be None for a video that has nothing published."""
    return {**listed_video(video, route), "manifests": _manifests(video, route)}


def listed_video(video: Video, route: Route | None) -> Json:
    """One video as lists show it."""
    return {
        "video_id": video.id,
        "title": video.title,
        "description": video.description,
        "tags": list(video.tags),
        "status": video.state,
        "failure": {"kind": video.failure.kind, "detail": video.failure.detail} if video.failure else None,
        "size_bytes": video.size_bytes,
        "filename": video.filename,
        "content_type": video.content_type,
        "duration_s": video.duration_s,
        "width": video.width,
        "height": video.height,
        "frame_rate": video.frame_rate,
        "created_at": video.created_at,
        "ready_at": video.ready_at,
        "progress": round(video.progress, 4),
        "renditions": [_rendition(rendition) for rendition in video.renditions],
        "poster": route.urls.poster if route else None,
    }


def _rendition(rendition: Rendition) -> Json:
    return {
        "codec": rendition.codec,
        "rung": rendition.rung,
        "kind": rendition.kind,
        "state": rendition.state,
        "progress": round(rendition.progress, 4),
        "width": rendition.width,
        "height": rendition.height,
        "frame_rate": rendition.frame_rate,
        "codecs": rendition.codecs,
        "bandwidth_bps": rendition.bandwidth_bps,
        "average_bandwidth_bps": rendition.average_bandwidth_bps,
        "vmaf": _vmaf(rendition),
    }


def _vmaf(rendition: Rendition) -> Json | None:
    if rendition.vmaf_mean is None:
        return None
    return {"mean": rendition.vmaf_mean, "low": rendition.vmaf_low, "seconds": rendition.vmaf_seconds}


def _manifests(video: Video, route: Route | None) -> Json | None:
    if route is None or video.state is not VideoState.READY:
        return None
    return {"hls": route.urls.hls, "dash": route.urls.dash}


def playback_answer(video: Video, playable: Playability, route: Route) -> Json:
    """Edges are named also while the video does not play yet, so that a page can show where it will come from."""
    plays = playable.status is PlaybackStatus.PLAYABLE
    return {
        "video_id": video.id,
        "status": playable.status,
        "reason": playable.reason,
        "title": video.title,
        "duration_s": video.duration_s,
        "hls": route.urls.hls if plays else None,
        "dash": route.urls.dash if plays else None,
        "poster": route.urls.poster,
        "storyboard": route.urls.storyboard,
        "expires_at": route.expires_at,
        "edge": _edge(route.edge),
        "alternates": [_edge(edge) for edge in route.alternates],
        "logical_host": route.logical_host,
    }


def _edge(edge: SteeredEdge) -> Json:
    return {"name": edge.name, "pop": edge.pop, "region": edge.region, "address": str(edge.address)}
