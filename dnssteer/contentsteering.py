"""Content Steering at the door: where players fetch their steering manifest from the second one on.

    GET /steering/videos/{id}/steering.json?from={edge}&region={region}     (HLS; steering.dcsm for DASH)

The first one comes from the edge that the player began at, under its grant; its RELOAD-URI leads here, so that a player learns
of a move also when that edge is gone. No grant is asked for: hosts of edges are what DNS tells everybody.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from dnssteer.door import client_of
from dnssteer.metrics import STEERING_MANIFESTS
from headwater.rules.mediapath import path_video
from headwater.runtime.problems import Problem
from headwater.settings.pathways import DOOR_PREFIX, steering_manifest_of, viewer_region
from headwater.settings.snapshot import Snapshot

HEADERS = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}


class ContentSteering:
    """`snapshot` gives the current one."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def add_to(self, app: web.Application) -> None:
        app.router.add_get(f"{DOOR_PREFIX}/{{path:videos/[^/]+/steering\\.(json|dcsm)}}", self._manifest)

    async def _manifest(self, request: web.Request) -> web.Response:
        snapshot, query = self._snapshot(), request.query
        video = path_video(request.match_info["path"])
        if video is None:
            raise Problem(404, "not-a-video", "Not a video", "no video has such an id", headers=HEADERS)
        base = query.get("from")
        if base is not None and all(name != base for name, _, _ in snapshot.deployment.edges()):
            base = None  # it was taken out of the config meanwhile
        region = viewer_region(snapshot, client_of(request, snapshot), base, query.get("region"))
        STEERING_MANIFESTS.labels(region).inc()
        manifest = steering_manifest_of(snapshot, request.path, video, region, base, secure=query.get("tls") == "1")
        return web.json_response(manifest, headers=HEADERS)
