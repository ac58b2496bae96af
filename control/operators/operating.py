"""The operators' part of control's API: plans, rollouts, versions, drains, warm orders, the audit log."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from aiohttp import web

from control.audit import AuditLog, What
from control.caches.warming import Warming
from control.config.history import History
from control.config.history import members_of as version_members
from control.operators.access import operator_of
from control.operators.operations import Operations
from control.orderbody import order_invalid, order_members
from control.rollouts.rollouts import Rollouts
from control.rollouts.rolloutstate import members_of as state_members
from headwater.rules.apitokens import Scope

LARGEST_CONFIG_BYTES: Final = 8 * 2**20
LONGEST_WAIT_S: Final = 25.0
LINES_AT_MOST: Final = 1000
NO_STORE: Final = {"Cache-Control": "no-store"}


class OperatingApi:
    """Adds its routes to control's site."""

    def __init__(
        self,
        operations: Operations,
        rollouts: Rollouts,
        history: History,
        warming: Warming,
        audit: AuditLog,
    ) -> None:
        self._operations = operations
        self._rollouts = rollouts
        self._history = history
        self._warming = warming
        self._audit = audit

    def add_to(self, app: web.Application) -> web.Application:
        app.router.add_post("/api/v1/plan", self._plan)
        app.router.add_post("/api/v1/apply", self._apply)
        app.router.add_post("/api/v1/rollback", self._rollback)
        app.router.add_get("/api/v1/rollout", self._rollout)
        app.router.add_get("/api/v1/versions", self._versions)
        app.router.add_get("/api/v1/versions/{number:[0-9]{1,9}}", self._version)
        app.router.add_post("/api/v1/drain", self._drain)
        app.router.add_post("/api/v1/warm", self._warm)
        app.router.add_get("/api/v1/audit", self._lines)
        return app

    async def _plan(self, request: web.Request) -> web.Response:
        """{text, name} or {drain: [names]} or {undrain: [names]} → the plan."""
        await operator_of(request, Scope.VIEW)
        asked = await _members(request)
        for word, drained in (("drain", True), ("undrain", False)):
            if word in asked:
                return _answer(await self._operations.plan_of_drains(_names(asked, word), drained=drained))
        return _answer(await self._operations.plan(_text(asked, "text"), _shown(asked)))

    async def _apply(self, request: web.Request) -> web.Response:
        """{text, name, force} → 202 {plan, rollout, version}."""
        asker = await operator_of(request, Scope.OPERATE)
        asked = await _members(request)
        begun = await self._operations.apply(_text(asked, "text"), _shown(asked), asker, force=_flag(asked, "force"))
        return _answer(begun, 202)

    async def _rollback(self, request: web.Request) -> web.Response:
        """{version?, force} → what was stopped, or as for apply."""
        asker = await operator_of(request, Scope.OPERATE)
        asked = await _members(request)
        number = asked.get("version")
        if number is not None and type(number) is not int:
            raise order_invalid("version: a number was expected")
        return _answer(await self._operations.rollback(number, asker, force=_flag(asked, "force")), 202)

    async def _rollout(self, request: web.Request) -> web.Response:
        """The rollout under way or the last one; waits up to `wait` seconds for more lines than `after`."""
        await operator_of(request, Scope.VIEW)
        try:
            after, wait_s = int(request.query.get("after", "0")), float(request.query.get("wait", "0"))
            if not math.isfinite(wait_s):
                raise ValueError("no time to wait")
        except ValueError as error:
            raise order_invalid("after and wait: numbers were expected") from error
        state = await self._rollouts.news(after, min(max(wait_s, 0.0), LONGEST_WAIT_S))
        return _answer({"rollout": None if state is None else state_members(state) | {"active": state.active}})

    async def _versions(self, request: web.Request) -> web.Response:
        await operator_of(request, Scope.VIEW)
        in_force = self._history.in_force
        versions = [version_members(one, with_text=False) for _, one in sorted(self._history.versions.items(), reverse=True)]
        return _answer({"versions": versions, "in_force": in_force.number if in_force else None})

    async def _version(self, request: web.Request) -> web.Response:
        await operator_of(request, Scope.VIEW)
        return _answer(version_members(self._operations.version(int(request.match_info["number"]))))

    async def _drain(self, request: web.Request) -> web.Response:
        """{names, drained, force, gently} → {plan, rollout, drained}."""
        asker = await operator_of(request, Scope.OPERATE)
        asked = await _members(request)
        force, gently = _flag(asked, "force"), _flag(asked, "gently")
        drained = _flag(asked, "drained", default=True)
        done = await self._operations.drain(_names(asked, "names"), asker, drained=drained, force=force, gently=gently)
        return _answer(done, 202 if done["rollout"] else 200)

    async def _warm(self, request: web.Request) -> web.Response:
        """{urls, edges?, concurrency?, bandwidth_bps?} → by edge what became of it."""
        asker = await operator_of(request, Scope.OPERATE)
        asked = await _members(request)
        done = await self._warming.warm(asked)
        await asyncio.to_thread(self._audit.note, asker, What.WARM, f"{done['objects']} objects", "done")
        return _answer(done)

    async def _lines(self, request: web.Request) -> web.Response:
        """The audit log's latest lines, newest first."""
        await operator_of(request, Scope.VIEW)
        limit = request.query.get("limit", "100")
        if not limit.isascii() or not limit.isdigit() or not 0 < int(limit) <= LINES_AT_MOST:
            raise order_invalid(f"limit: 1 to {LINES_AT_MOST} was expected")
        return _answer({"lines": await asyncio.to_thread(self._audit.last, int(limit))})


def _answer(members: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(members, status=status, headers=NO_STORE)


async def _members(request: web.Request) -> dict[str, Any]:
    return await order_members(request.clone(client_max_size=LARGEST_CONFIG_BYTES))


def _text(members: dict[str, Any], name: str) -> str:
    if not isinstance(members.get(name), str):
        raise order_invalid(f"{name}: a text was expected")
    return str(members[name])


def _shown(members: dict[str, Any]) -> str:
    name = members.get("name", "the file")
    return name[:200] if isinstance(name, str) and name.isprintable() else "the file"


def _flag(members: dict[str, Any], name: str, *, default: bool = False) -> bool:
    value = members.get(name, default)
    if not isinstance(value, bool):
        raise order_invalid(f"{name}: true or false was expected")
    return value


def _names(members: dict[str, Any], name: str) -> list[str]:
    names = members.get(name)
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        raise order_invalid(f"{name}: a list of POPs and edges was expected")
    return names
