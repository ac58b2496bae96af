"""Control's HTTP side: snapshots for nodes, status and page for operators, /healthz and /metrics for the watchers of control."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Final

from aiohttp import web

from control.audit import Asker, What
from control.caches.purging import Purger, order_from
from control.metrics import POLLS
from control.operators.access import TOKENS, operator_of, token_of
from control.operators.desk import Desk
from control.operators.logs import LogsApi
from control.operators.status import status_of
from control.plane import ControlPlane
from headwater.rules.apitokens import Scope
from headwater.runtime.httpsite import admin_app, problems
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.runtime.problems import Problem
from headwater.runtime.purgelines import members_of
from headwater.settings.deployment import nodes_of

LONGEST_WAIT_S: Final = 60.0
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


def control_app(plane: ControlPlane, purger: Purger, desk: Desk) -> web.Application:
    app = admin_app()
    app.middlewares.append(problems)
    app[PLANE] = plane
    app[PURGER] = purger
    app[DESK] = desk
    app[TOKENS] = desk.tokens
    app.router.add_get("/api/v1/snapshot", snapshot)
    app.router.add_get("/api/v1/status", status)
    app.router.add_post("/api/v1/purge", purge)
    app.router.add_get("/api/v1/purges", purges)
    app.router.add_get("/", page)
    app.router.add_get(f"/page/{{name:{'|'.join(map(re.escape, PAGE_PARTS))}}}", page_part)
    LogsApi(plane).add_to(app)
    return desk.api.add_to(app)


async def snapshot(request: web.Request) -> web.Response:
    """The snapshot if it is newer than `after`, as soon as it is; 204 when none came within `wait` seconds."""
    plane = request.app[PLANE]
    current = plane.publisher.current
    node = current.node_of_token(request.headers.get(NODE_HEADER, "")) if current else None
    if node is None:
        POLLS.labels("refused").inc()
        named = request.query.get("node", "a node that did not say its name")
        plane.log.warning("a snapshot was asked for without a known token", by=named[:64], peer=request.remote)
        detail = f"the {NODE_HEADER} token of {named[:64]} is not of this deployment; start the node with its data folder"
        raise Problem(403, "node-unknown", "Node unknown", detail)
    after, wait_s = _number(request, "after", 0), _number(request, "wait", 0)
    plane.polled(node, int(after))
    body = await plane.publisher.newer_than(int(after), min(max(wait_s, 0), LONGEST_WAIT_S), node)
    POLLS.labels("newer" if body else "unchanged").inc()
    answer = web.Response(status=204) if body is None else web.Response(body=body, content_type="application/json")
    answer.headers["Cache-Control"] = "no-store"
    if plane.publisher.closed:
        answer.force_close()  # the next question is for the next control
    return answer


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
    plane = request.app[PLANE]
    origin = _origin_api(request)
    operator = origin or await operator_of(request, Scope.OPERATE)
    try:
        order = order_from(await request.json(), plane.deployment)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "purge-invalid", "Purge invalid", f"the body is no JSON: {error}") from error
    if origin is not None and not order.of_a_video:
        raise Problem(
            403, "purge-not-yours", "Not yours to purge", "the origin's API purges videos that were deleted, nothing else"
        )
    done = await request.app[PURGER].purge(order)
    missing = ", ".join(one["node"] for one in done["missing"])
    outcome = f"missing: {missing}" if missing else "acknowledged by all"
    await asyncio.to_thread(request.app[DESK].audit.note, operator, What.PURGE, order.text, outcome)
    return web.json_response(done, headers={"Cache-Control": "no-store"})


async def purges(request: web.Request) -> web.Response:
    """The purges after the sequence `after`, for a node that missed them."""
    node = _asker(request)
    if node is None:
        raise Problem(403, "node-unknown", "Node unknown", "only nodes of this deployment may ask for its purges")
    records = request.app[PURGER].missed_by(node, int(_number(request, "after", 0)))
    return web.json_response({"records": [members_of(record) for record in records]}, headers={"Cache-Control": "no-store"})


def _origin_api(request: web.Request) -> Asker | None:
    """The origin's API by its node token, which it shows to control alone."""
    node = _asker(request)
    if node is None or nodes_of(request.app[PLANE].deployment).get(node) != "origin-api":
        return None
    return Asker(node, address=request.remote or "")


def _asker(request: web.Request) -> str | None:
    current = request.app[PLANE].publisher.current
    return current.node_of_token(request.headers.get(NODE_HEADER, "")) if current else None


async def page(request: web.Request) -> web.FileResponse:
    return _page_file("index.html")


async def page_part(request: web.Request) -> web.FileResponse:
    return _page_file(request.match_info["name"])


def _page_file(name: str) -> web.FileResponse:
    """The types are ours to say: a browser runs no module that the machine's own table calls plain text."""
    return web.FileResponse(PAGE_FOLDER / name, headers={**PAGE_HEADERS, "Content-Type": PAGE_TYPES[name.rpartition(".")[2]]})


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 2**53:
        raise Problem(400, "query-invalid", "Query invalid", f"{name}={text[:40]!r}: a number that is not negative was expected")
    return number
