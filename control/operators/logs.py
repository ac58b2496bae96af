"""GET /api/v1/logs: the logs of all nodes as they grow, lines of JSON, until the asker leaves.

    {"of": "fra-1", "log": "access", "line": {…}}
    {"unreached": "sin-1", "log": "access", "why": "…"}     it is on another machine, and does not answer; it is asked again
    {"lost": 210, "of": "sin-1", "log": "access"}           it forgot these before they could be read

Nodes of control's own machine are read from their files, the others at their admin address, while somebody follows.
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
from control.operators.remotelines import RemoteTail, session_of
from control.plane import ControlPlane
from headwater.rules.apitokens import Scope
from headwater.runtime.enrolment.links import admin_site
from headwater.runtime.nodeprocess import log_files
from headwater.runtime.problems import Problem
from headwater.settings.deployment import nodes_of

CONTROL: Final = "control"
LOOK_S: Final = 0.2
ALIVE_S: Final = 5.0  # an empty line this often: an asker that left is noticed
FOLLOWERS: Final = 20
LAST_AT_MOST: Final = 500
LOGS: Final = ("access", "service")
TAKES_AT_MOST_S: Final = 30.0  # an asker that takes nothing for so long is let go
WAITING_AT_MOST: Final = 8  # pieces of other machines' logs: beyond it nobody is asked for more


class LogsApi:
    """Adds its route to control's site."""

    def __init__(self, plane: ControlPlane, token: str) -> None:
        self._plane = plane
        self._token = token
        self._followers = 0

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/logs", self._follow)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """?node=…&log=access|service&status=5xx&refused=1&last=10; node, log and status may come several times."""
        await operator_of(request, Scope.VIEW)
        wanted, keys, last = self._asked(request)
        if self._followers >= FOLLOWERS:
            detail = f"{FOLLOWERS} others follow the logs; wait until one leaves"
            raise Problem(429, "too-many-followers", "Too many followers", detail, headers={"Retry-After": "10"})
        self._followers += 1
        LOG_FOLLOWERS.set(self._followers)
        try:
            return await self._stream(request, wanted, *await self._tails(keys, last))
        finally:
            self._followers -= 1
            LOG_FOLLOWERS.set(self._followers)

    def _asked(self, request: web.Request) -> tuple[Filter, list[tuple[str, str]], int]:
        """Which lines of which (node, log), and how many to begin with."""
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
        return Filter(statuses, query.get("refused") == "1"), [(node, log) for node in nodes for log in logs], int(last)

    async def _tails(self, keys: list[tuple[str, str]], last: int) -> tuple[list[Tail], list[RemoteTail]]:
        """Those on this machine, and those on others."""
        here: list[Tail] = []
        elsewhere: list[RemoteTail] = []
        for node, log in dict.fromkeys(keys):
            files = log_files(self._plane.deployment.data, node)
            if await asyncio.to_thread(files.service.exists):
                here.append(Tail(node, log, getattr(files, log), last))
            elif node != CONTROL:
                elsewhere.append(
                    RemoteTail(node, log, admin_site(self._plane.nodes.identity, self._plane.deployment, node), last)
                )
        return here, elsewhere

    async def _stream(
        self, request: web.Request, wanted: Filter, here: list[Tail], elsewhere: list[RemoteTail]
    ) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        await answer.prepare(request)
        waiting: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue(WAITING_AT_MOST)
        async with session_of(self._token) as session:
            following = [asyncio.create_task(tail.follow(session, wanted, waiting.put)) for tail in elsewhere]
            try:
                await self._write_on(answer, wanted, here, waiting)
            except (ConnectionError, TimeoutError):
                pass  # the asker left, or takes nothing any more
            finally:
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
        return answer

    async def _write_on(
        self, answer: web.StreamResponse, wanted: Filter, here: list[Tail], waiting: asyncio.Queue[list[dict[str, Any]]]
    ) -> None:
        said = time.monotonic()
        while not self._plane.publisher.closed:
            found = 0
            for tail in here:  # one file at a time, written out before the next: memory stays that of one piece
                found += await _write(answer, await asyncio.to_thread(_new_lines, tail, wanted))
            while not waiting.empty():
                found += await _write(answer, waiting.get_nowait())
            if found or time.monotonic() - said > ALIVE_S:
                said = time.monotonic()
                async with asyncio.timeout(TAKES_AT_MOST_S):
                    await answer.write(b"\n")
            if not found:
                await asyncio.sleep(LOOK_S)


async def _write(answer: web.StreamResponse, lines: list[dict[str, Any]]) -> int:
    if lines:
        async with asyncio.timeout(TAKES_AT_MOST_S):
            await answer.write(b"".join(map(_line, lines)))
    return len(lines)


def _new_lines(tail: Tail, wanted: Filter) -> list[dict[str, Any]]:
    return list(tail.lines(wanted))


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False).encode() + b"\n"


def _invalid(detail: str) -> Problem:
    return Problem(400, "query-invalid", "Query invalid", detail)
