"""Who asks: the API token of a request, looked up in the catalogue each time, so that a revoked one is refused at once.

URLs that are permissions by themselves (a part's, a YouTube session's) name the token that they were given to: `still` looks at
it at their use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from cachetools import TTLCache
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from yarl import URL

from headwater.rules.apitokens import Scope, TokenRefused, bearer_token, check_kept, check_token
from headwater.runtime.problems import Problem
from headwater.settings.origin import Origin
from origin.catalogue.engine import reading
from origin.catalogue.tokens import find_token
from origin.uploads.creator import ANYBODY, Creator

BELIEVED_S: Final = 2.0  # a token that held is not looked up again for this long: creators send many parts a second
MOST_BELIEVED: Final = 4096


def _none_yet() -> TTLCache[str, bool]:
    return TTLCache(MOST_BELIEVED, BELIEVED_S)


@dataclass(frozen=True, slots=True)
class Permission:
    """`required` says the setting origin.uploads.require_tokens, as it is now; `pages` whose pages (`https://host`) may upload
    without a token: this origin's own and those of origin.uploads.pages."""

    catalogue: AsyncEngine
    required: Callable[[], bool]
    pages: Callable[[], Collection[str]]
    clock: Callable[[], float] = time.time
    _held: TTLCache[str, bool] = field(default_factory=_none_yet)

    async def creator(self, request: web.Request, needed: Scope = Scope.UPLOAD) -> Creator:
        """Raises Problem 401 or 403. A token that is shown is looked at even where none is required."""
        field = request.headers.get("Authorization")
        if field is None and not self.required():
            return self._anybody(request.headers.get("Origin"))
        try:
            token = bearer_token(field, needed)
            async with reading(self.catalogue) as connection:
                stored = check_token(token, await find_token(connection, token.id), needed, self.clock())
        except TokenRefused as refused:
            raise _problem(refused) from refused
        return Creator(stored.name, stored.permits(Scope.MANAGE), stored.id)

    def _anybody(self, page: str | None) -> Creator:
        """A browser sends a page's origin (RFC 6454) with all that changes something. Without this, whatever site a user of the
        network looks at could upload in their stead."""
        if page is None or page in self.pages():
            return ANYBODY
        detail = (
            f"without a token only this origin's own pages may do this, not those of {page[:100]}: send a token, or list it in"
        )
        raise Problem(403, "page-foreign", "Page of another site", f"{detail} origin.uploads.pages")

    async def still(self, token_id: str | None) -> None:
        """Raises Problem 403 when that token permits no upload any more; None, of a deployment without tokens, always does.

        While the catalogue is away, bytes may arrive on: nothing becomes of them until an upload is completed, by a token.
        """
        if token_id is None or token_id in self._held:
            return
        try:
            async with reading(self.catalogue) as connection:
                check_kept(token_id, await find_token(connection, token_id), Scope.UPLOAD, self.clock())
        except SQLAlchemyError:
            return
        except TokenRefused as refused:
            raise Problem(403, refused.refusal.value, refused.refusal.heading, refused.detail) from refused
        self._held[token_id] = True


def own_pages(origin: Origin) -> frozenset[str]:
    """The origins (RFC 6454, as browsers send them) of the pages that may upload without a token."""
    return frozenset(str(URL(text).origin()) for text in (origin.public_url, origin.api.listen.url, *origin.uploads.pages))


def _problem(refused: TokenRefused) -> Problem:
    kind = refused.refusal
    return Problem(kind.status, kind.value, kind.heading, refused.detail, headers={"WWW-Authenticate": refused.challenge})
