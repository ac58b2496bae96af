"""Who asks: the API token of a request, looked up in the catalogue each time, so that a revoked one is refused at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.apitokens import Scope, TokenRefused, bearer_token, check_token
from headwater.runtime.problems import Problem
from origin.catalogue.engine import reading
from origin.catalogue.tokens import find_token
from origin.uploads.creator import ANYBODY, Creator


@dataclass(frozen=True, slots=True)
class Permission:
    """`required` says the setting origin.uploads.require_tokens, as it is now."""

    catalogue: AsyncEngine
    required: Callable[[], bool]
    clock: Callable[[], float] = time.time

    async def creator(self, request: web.Request, needed: Scope = Scope.UPLOAD) -> Creator:
        """Raises Problem 401 or 403. A token that is shown is looked at even where none is required."""
        field = request.headers.get("Authorization")
        if field is None and not self.required():
            return ANYBODY
        try:
            token = bearer_token(field, needed)
            async with reading(self.catalogue) as connection:
                stored = check_token(token, await find_token(connection, token.id), needed, self.clock())
        except TokenRefused as refused:
            raise _problem(refused) from refused
        return Creator(stored.name, stored.permits(Scope.MANAGE))


def _problem(refused: TokenRefused) -> Problem:
    kind = refused.refusal
    return Problem(kind.status, kind.value, kind.heading, refused.detail, headers={"WWW-Authenticate": refused.challenge})
