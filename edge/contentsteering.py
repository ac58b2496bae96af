"""Content Steering at the edge: `{grant}/videos/{id}/steering.json` is answered from the snapshot and never stored."""

from __future__ import annotations

import json

from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.roles import ORIGIN_PARENT, OwnAnswer
from headwater.rules.contentsteering import is_steering_path
from headwater.rules.mediapath import path_video
from headwater.settings.pathways import steering_manifest_of, viewer_region


def content_steering(exchange: Exchange, node: str) -> OwnAnswer | None:
    """The steering manifest, when that is what a viewer who may watch the video asks for. An ordinary site's paths are its own,
    whatever they look like."""
    if exchange.site is None or exchange.site.settings.parent != ORIGIN_PARENT:
        return None
    path = exchange.passage.path if exchange.passage is not None else ""
    video = path_video(path[1:]) if is_steering_path(path) else None
    if video is None or exchange.method not in ("GET", "HEAD"):
        return None
    region = viewer_region(exchange.snapshot, exchange.client, node, None)
    manifest = steering_manifest_of(exchange.snapshot, path, video, region, node, secure=exchange.request.secure)
    return OwnAnswer("application/json", json.dumps(manifest).encode())
