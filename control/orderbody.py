"""What operators send to control: a JSON object, or a refusal that says what was expected."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from headwater.runtime.problems import Problem


def order_invalid(detail: str) -> Problem:
    return Problem(400, "order-invalid", "Order invalid", detail)


async def order_members(request: web.Request) -> dict[str, Any]:
    """The members of the request's body. Raises Problem."""
    try:
        members = json.loads(await request.read())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise order_invalid(f"the body is no JSON: {error}") from error
    if not isinstance(members, dict):
        raise order_invalid("a JSON object was expected")
    return members
