"""Who asks, and whether they may: the one function that every question and order of an operator passes.

The tokens of nodes are no operators' tokens: control shows its own to every node that it orders something.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import web

from control.audit import Asker
from control.metrics import TOKENS_REFUSED
from control.operators.tokenbook import TokenBook, TokenBookError
from headwater.rules.apitokens import Scope, StoredToken, TokenRefused, bearer_token, check_token
from headwater.runtime.problems import Problem

LOGIN_HEADER: Final = "Headwater-Login"  # what the operator's machine calls them; proves nothing
LOGIN_CHARS: Final = 64
TOKENS: Final = web.AppKey("tokens", TokenBook)


async def operator_of(request: web.Request, needed: Scope) -> Asker:
    """Who asks: the name of the token that they show. Raises Problem 401 or 403."""
    stored = await token_of(request, needed)
    login = "".join(char for char in request.headers.get(LOGIN_HEADER, "") if char.isprintable())[:LOGIN_CHARS]
    return Asker(stored.name, login, request.remote or "")


async def token_of(request: web.Request, needed: Scope) -> StoredToken:
    """The token that the request shows. Raises Problem 401 or 403.

    No page of another site can send the field, as no answer here allows it to.
    """
    book = request.app[TOKENS]
    try:
        token = bearer_token(request.headers.get("Authorization"), needed)
        return check_token(token, await asyncio.to_thread(book.find, token.id), needed, time.time())
    except TokenRefused as refused:
        TOKENS_REFUSED.labels(refused.refusal).inc()
        refusal = refused.refusal
        raise Problem(
            refusal.status, refusal, refusal.heading, refused.detail, headers={"WWW-Authenticate": refused.challenge}
        ) from refused
    except TokenBookError as error:
        TOKENS_REFUSED.labels("unreadable").inc()
        raise Problem(503, "tokens-unreadable", "Tokens cannot be read", str(error)) from error
