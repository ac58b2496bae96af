"""GET /api/v1/logs: the logs of this machine's nodes as they grow, lines of JSON, until the asker leaves.

{"of": "fra-1", "log": "access", "line": {…}}        {"absent": ["sin-1"]}: no log of that node on control's machine
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final

from aiohttp import web

from control.metrics import LOG_FOLLOWERS
from control.operators.access import operator_of
from control.operators.following import Filter, Tail, parse_statuses
from control.plane import ControlPlane
from headwater.rules.apitokens import Scope
from headwater.runtime.nodeprocess import log_files
from headwater.runtime.problems import Problem
from headwater.settings.deployment import nodes_of

LOOK_S: Final = 0.2
ALIVE_S: Final = 5.0  # an empty line this often: an asker that left is noticed
FOLLOWERS: Final = 20
LAST_AT_MOST: Final = 500
LOGS: Final = ("access", "service")


class LogsApi:
    """Adds its route to control's site."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._followers = 0

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/logs", self._follow)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """?node=…&log=access|service&status=5xx&refused=1&last=10; node, log and status may come several times."""
        await operator_of(request, Scope.VIEW)
        wanted, tails = self._asked(request)
        if self._followers >= FOLLOWERS:
            detail = f"{FOLLOWERS} others follow the logs; wait until one leaves"
            raise Problem(429, "too-many-followers", "Too many followers", detail, headers={"Retry-After": "10"})
        self._followers += 1
        LOG_FOLLOWERS.set(self._followers)
        try:
            return await self._stream(request, wanted, tails)
        finally:
            self._followers -= 1
            LOG_FOLLOWERS.set(self._followers)

    def _asked(self, request: web.Request) -> tuple[Filter, list[Tail]]:
        query, deployment = request.query, self._plane.deployment
        known = nodes_of(deployment)
        nodes, logs = query.getall("node", list(known)), query.getall("log", [LOGS[0]])
        last = query.get("last", "0")
        try:
            statuses = parse_statuses(query.getall("status", []))
        except ValueError as error:
            raise _invalid(str(error)) from error
        if unknown := [node[:64] for node in nodes if node not in known]:
            raise Problem(404, "node-unknown", "Node unknown", f"no node {', '.join(unknown)}; there are {', '.join(known)}")
        if not set(logs) <= set(LOGS):
            raise _invalid(f"log: {' or '.join(LOGS)} was expected")
        if not (last.isascii() and last.isdigit() and len(last) < 5 and int(last) <= LAST_AT_MOST):
            raise _invalid(f"last: 0 to {LAST_AT_MOST} was expected")
        files = {(node, log): getattr(log_files(deployment.data, node), log) for node in nodes for log in logs}
        return Filter(statuses, query.get("refused") == "1"), [Tail(*key, file, int(last)) for key, file in files.items()]

    async def _stream(self, request: web.Request, wanted: Filter, tails: list[Tail]) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        await answer.prepare(request)
        data = self._plane.deployment.data
        absent = sorted({tail.node for tail in tails if not await asyncio.to_thread(log_files(data, tail.node).service.exists)})
        await answer.write(_line({"absent": absent}))
        said = time.monotonic()
        try:
            while not self._plane.publisher.closed:
                found = 0
                for tail in tails:  # one file at a time, written out before the next: memory stays that of one piece
                    lines = await asyncio.to_thread(_new_lines, tail, wanted)
                    found += len(lines)
                    if lines:
                        await answer.write(b"".join(map(_line, lines)))
                if found or time.monotonic() - said > ALIVE_S:
                    said = time.monotonic()
                    await answer.write(b"\n")
                if not found:
                    await asyncio.sleep(LOOK_S)
        except ConnectionError:
            pass  # the asker left
        return answer


def _new_lines(tail: Tail, wanted: Filter) -> list[dict[str, Any]]:
    return list(tail.lines(wanted))


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False).encode() + b"\n"


def _invalid(detail: str) -> Problem:
    return Problem(400, "query-invalid", "Query invalid", detail)
