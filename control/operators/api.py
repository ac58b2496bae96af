"""Control's HTTP side: snapshots for nodes, status and page for operators, /healthz and /metrics for the watchers of control."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from aiohttp import web

from control.audit import Asker
from control.caches.purging import Purger
from control.enrolment.api import EnrolmentApi
from control.operators.access import TOKENS, operator_of, token_of
from control.operators.desk import Desk
from control.operators.logs import LogsApi
from control.operators.status import status_of
from control.plane import ControlPlane
from control.questions import NodeQuestions, Who, purge_by
from headwater.rules.apitokens import Scope
from headwater.runtime.httpsite import admin_app, problems
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.settings.deployment import nodes_of

PAGE_FOLDER: Final = Path(__file__).parents[1] / "page"
PLANE: Final = web.AppKey("plane", ControlPlane)
PURGER: Final = web.AppKey("purger", Purger)
DESK: Final = web.AppKey("desk", Desk)
PAGE_PARTS: Final = ("page.css", "page.js", "asking.js", "elements.js", "format.js", "orders.js", "plan.js", "view.js")
PAGE_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
}
PAGE_HEADERS: Final = {
    # The page is all of its own; nothing of another site is loaded, and none may frame it.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def control_app(
    plane: ControlPlane, purger: Purger, desk: Desk, who: Who, enrolment: EnrolmentApi, token: str
) -> web.Application:
    """`who` says which node asks for a snapshot or for purges; `token` is control's own."""
    app = admin_app()
    app.middlewares.append(problems)
    app[PLANE] = plane
    app[PURGER] = purger
    app[DESK] = desk
    app[TOKENS] = desk.tokens
    app.router.add_get("/api/v1/status", status)
    app.router.add_post("/api/v1/purge", purge)
    app.router.add_get("/", page)
    app.router.add_get(f"/page/{{name:{'|'.join(map(re.escape, PAGE_PARTS))}}}", page_part)
    LogsApi(plane, token).add_to(app)
    NodeQuestions(plane, purger, who, desk.audit).add_to(app)
    enrolment.add_to(app)
    return desk.api.add_to(app)


async def status(request: web.Request) -> web.Response:
    """The deployment's tree, and whom the token names."""
    token = await token_of(request, Scope.VIEW)
    state = request.app[DESK].rollouts.state
    rollout = None
    if state is not None and state.active:
        said = state.lines[-1].text if state.lines else ""
        rollout = {"what": state.what, "step": state.step + 1, "steps": list(state.steps), "said": said, "began": state.began}
    night = request.app[DESK].prepositioning.told()
    you = {"name": token.name, "scopes": sorted(token.scopes)}
    tree = {**status_of(request.app[PLANE], rollout, night), "you": you}
    return web.json_response(tree, headers={"Cache-Control": "no-store"})


async def purge(request: web.Request) -> web.Response:
    """Purges {url | prefix | tag | video, soft?} everywhere; says who acknowledged and who is missing."""
    origin = _origin_api(request)
    asker = origin or await operator_of(request, Scope.OPERATE)
    app = request.app
    return await purge_by(request, asker, app[PLANE], app[PURGER], app[DESK].audit, videos_only=origin is not None)


def _origin_api(request: web.Request) -> Asker | None:
    """The origin's API by its node token, which it shows to control alone; with enrolment it asks at the site of nodes."""
    plane = request.app[PLANE]
    current = plane.publisher.current
    node = current.node_of_token(request.headers.get(NODE_HEADER, "")) if current else None
    if node is None or nodes_of(plane.deployment).get(node) != "origin-api" or plane.deployment.control.enrolment is not None:
        return None
    return Asker(node, address=request.remote or "")


async def page(request: web.Request) -> web.FileResponse:
    return _page_file("index.html")


async def page_part(request: web.Request) -> web.FileResponse:
    return _page_file(request.match_info["name"])


def _page_file(name: str) -> web.FileResponse:
    """The types are ours to say: a browser runs no module that the machine's own table calls plain text."""
    return web.FileResponse(PAGE_FOLDER / name, headers={**PAGE_HEADERS, "Content-Type": PAGE_TYPES[name.rpartition(".")[2]]})
