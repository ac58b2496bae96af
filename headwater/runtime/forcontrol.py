"""What every node's admin site offers to control beside health and metrics: an ear for versions, and the latest log lines.

POST /log {"log": "access", "cursors": {"0": {"since": 1795212000.2, "next": 812}}}
{"parts": [{"worker": "0", "since": 1795212000.2, "next": 830, "lost": 0, "lines": "{…}\\n{…}\\n"}]}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from headwater.rules.nodeidentity import CONTROL
from headwater.runtime.enrolment.adminsite import asker
from headwater.runtime.problems import Problem
from headwater.runtime.recentlines import LOGS
from headwater.runtime.snapshots import SnapshotFollower
from headwater.settings.snapshot import Snapshot


def for_control(app: web.Application, snapshots: SnapshotFollower, worker: int = 0) -> web.Application:
    """`worker` is the place of a process that is one of several of its node."""
    return offering_lines(snapshots.hearing(app), lambda: snapshots.current, worker)


def offering_lines(app: web.Application, snapshot: Callable[[], Snapshot], worker: int) -> web.Application:
    """Adds the route to a node's admin site. Only control may read."""

    async def read(request: web.Request) -> web.Response:
        if asker(request, snapshot()) != CONTROL:
            return Problem(
                403, "node-unknown", "Node unknown", "only control may read logs; use `headwater logs follow`"
            ).response()
        try:
            asked = await request.json()
            lines, number = LOGS[asked["log"]], _number_of(asked["cursors"].get(str(worker)), LOGS[asked["log"]].since)
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            return Problem(400, "query-invalid", "Query invalid", f"expected {{log, cursors}}: {error!r}").response()
        piece = lines.after(number)
        part = {"worker": str(worker), "since": lines.since, "next": piece.next, "lost": piece.lost, "lines": piece.lines}
        return web.json_response({"parts": [part]}, headers={"Cache-Control": "no-store"})

    app.router.add_post("/log", read)
    return app


def _number_of(cursor: Any, since: float) -> int | None:
    if cursor is None:
        return None
    return int(cursor["next"]) if float(cursor["since"]) == since else 0
