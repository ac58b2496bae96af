"""HTTP 302: `/route/…` sends a viewer to the edge that DNS would have named, by the viewer's own address.

    GET /route/[{grant}/]videos/{id}/{rest}?{query}  →  302 Location: http://{edge}/[{grant}/]videos/{id}/{rest}?{query}

The grant and the query go along as they came; the edge checks them. The answer is never stored: it is true only now.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from dnssteer.door import client_of, is_secure
from dnssteer.metrics import REDIRECTS
from headwater.rules.mediapath import path_video
from headwater.rules.names import bucket_of
from headwater.rules.steering import region_of, steer
from headwater.runtime.problems import Problem
from headwater.settings.edgeurl import edge_url
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of
from signer.grant import looks_like_token

PREFIX = "/route"
ANY_SITE = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}


class Redirects:
    """`snapshot` gives the current one."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def add_to(self, app: web.Application) -> None:
        app.router.add_get(f"{PREFIX}/{{path:.+}}", self._redirect)

    async def _redirect(self, request: web.Request) -> web.Response:
        snapshot = self._snapshot()
        target = request.rel_url.raw_path.removeprefix(f"{PREFIX}/")
        first, _, rest = target.partition("/")
        video = path_video(rest if looks_like_token(first) else target)
        if video is None:
            REDIRECTS.labels("none", "not_a_video").inc()
            detail = f"{PREFIX}/videos/{{id}}/… was expected, or the same with a grant before `videos`"
            raise Problem(404, "not-a-video", "Not a video", detail, headers=ANY_SITE)
        world = world_of(snapshot)
        region = region_of(client_of(request, snapshot), world).region
        edges = steer(bucket_of(video), region, world)
        if not edges:
            REDIRECTS.labels(region, "no_edge").inc()
            headers = {**ANY_SITE, "Retry-After": "5"}
            raise Problem(503, "no-edge", "No edge", f"no edge may serve viewers of {region} now", headers=headers)
        REDIRECTS.labels(region, "redirected").inc()
        base = edge_url(snapshot.deployment.edge(edges[0].name), secure=is_secure(request, snapshot))
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        return web.Response(status=302, headers={**ANY_SITE, "Location": f"{base}/{target}{query}"})
