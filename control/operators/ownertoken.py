"""The token that a lab makes for its own user, so that the commands and the page work at once: `tokens/operator`, mode 0600."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from control.operators.tokenbook import book_of
from headwater.rules.apitokens import ApiToken, Scope, StoredToken
from headwater.runtime.ownertoken import is_of_no_use, new_owner_token, owner_token
from headwater.settings.deployment import Deployment

OPERATOR_FILE: Final = Path("tokens") / "operator"
OPERATOR_NAME: Final = "operator"


def ensure_operator_token(deployment: Deployment) -> ApiToken:
    """The token in the data folder, known to control. One that was revoked is replaced. Blocks; TokenBookError or OSError."""
    file, book = deployment.data / OPERATOR_FILE, book_of(deployment)
    token = owner_token(file)
    stored = book.find(token.id)
    if is_of_no_use(token, stored):
        token, stored = new_owner_token(file), None
    if stored is None:
        book.keep(StoredToken(token.id, OPERATOR_NAME, token.secret_sha256, frozenset({Scope.OPERATE}), time.time()))
    return token
