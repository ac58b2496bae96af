"""The token that a lab makes for its own user, so that `headwater upload` works at once: `tokens/creator`, mode 0600.

A token that was revoked, or that another catalogue made, is replaced by a new one.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from sqlalchemy.exc import IntegrityError

from headwater.rules.apitokens import ApiToken, Scope, StoredToken
from headwater.runtime.ownertoken import is_of_no_use, new_owner_token, owner_token
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import open_catalogue, reading, writing
from origin.catalogue.tokens import find_token, keep_token

CREATOR_FILE: Final = Path("tokens") / "creator"
CREATOR_NAME: Final = "creator"


async def ensure_creator_token(deployment: Deployment) -> ApiToken:
    """The token in the data folder, known to the catalogue. Migrates the catalogue, as whoever opens it does."""
    file = deployment.data / CREATOR_FILE
    async with open_catalogue(deployment) as catalogue:
        token = owner_token(file)
        async with reading(catalogue) as connection:
            stored = await find_token(connection, token.id)
        if is_of_no_use(token, stored):
            token, stored = new_owner_token(file), None
        if stored is None:
            new = StoredToken(token.id, CREATOR_NAME, token.secret_sha256, frozenset({Scope.MANAGE}), time.time())
            try:
                async with writing(catalogue) as connection:
                    await keep_token(connection, new)
            except IntegrityError:
                pass  # another starter read the same file and was first
    return token
