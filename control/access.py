"""Who may change something: the one function that every order of an operator passes."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from control.audit import Asker
from control.plane import ControlPlane
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.runtime.problems import Problem

LOGIN_HEADER: Final = "Headwater-Login"  # what the operator's machine calls them; proves nothing
OWN_TOKEN: Final = "control's own token"
LOGIN_CHARS: Final = 64


def operator_of(request: web.Request, plane: ControlPlane) -> Asker:
    """Who gives the order. Raises Problem.

    Only who can read control's token file may: no page of another site can send that header, nor can another user.
    """
    current = plane.publisher.current
    node = current.node_of_token(request.headers.get(NODE_HEADER, "")) if current else None
    if node != "control":
        detail = f"send control's own token as {NODE_HEADER}; the `headwater` command reads it from the data folder"
        raise Problem(403, "operator-unknown", "Operator unknown", detail)
    login = "".join(char for char in request.headers.get(LOGIN_HEADER, "") if char.isprintable())[:LOGIN_CHARS]
    return Asker(OWN_TOKEN, login, request.remote or "")
