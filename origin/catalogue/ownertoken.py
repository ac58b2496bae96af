"""The token that a lab makes for its own user, so that `headwater upload` works at once: `tokens/creator`, mode 0600.

The text is on disk before its digest is in the catalogue: killed in between, the next start writes the same digest. A token that
was revoked, or that another catalogue made, is replaced by a new one.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Final

from sqlalchemy.exc import IntegrityError

from headwater.rules.apitokens import DRAWN_BYTES, ApiToken, InvalidToken, Scope, StoredToken, draw_token, parse_token
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import open_catalogue, reading, writing
from origin.catalogue.tokens import find_token, keep_token

CREATOR_FILE: Final = Path("tokens") / "creator"
CREATOR_NAME: Final = "creator"


async def ensure_creator_token(deployment: Deployment) -> ApiToken:
    """The token in the data folder, known to the catalogue. Migrates the catalogue, as whoever opens it does."""
    file = deployment.data / CREATOR_FILE
    async with open_catalogue(deployment) as catalogue:
        token = _read(file) or _write(file)
        async with reading(catalogue) as connection:
            stored = await find_token(connection, token.id)
        if stored is not None and (stored.revoked_at is not None or stored.secret_sha256 != token.secret_sha256):
            token, stored = _write(file), None
        if stored is None:
            new = StoredToken(token.id, CREATOR_NAME, token.secret_sha256, frozenset({Scope.MANAGE}), time.time())
            try:
                async with writing(catalogue) as connection:
                    await keep_token(connection, new)
            except IntegrityError:
                pass  # another starter read the same file and was first
    return token


def _read(file: Path) -> ApiToken | None:
    try:
        return parse_token(file.read_text(encoding="ascii"))
    except (FileNotFoundError, InvalidToken, UnicodeDecodeError):
        return None


def _write(file: Path) -> ApiToken:
    token = draw_token(secrets.token_bytes(DRAWN_BYTES))
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as written:
        written.write(token.text + "\n")
        written.flush()
        os.fsync(written.fileno())
    draft.replace(file)
    return token
