"""The API tokens that a lab makes for its user, files of its data folder (mode 0600), so that commands and pages work at once.

Whoever keeps the tokens (the origin's catalogue, control's book) learns the digest only after the text is on disk: killed in
between, the next start tells it the same digest.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from headwater.rules.apitokens import DRAWN_BYTES, ApiToken, InvalidToken, StoredToken, draw_token, parse_token
from headwater.runtime.wholefiles import replace_secret


def owner_token(file: Path) -> ApiToken:
    """The token in the file, a new one where there is none that can be read. Raises OSError."""
    try:
        return parse_token(file.read_text(encoding="ascii"))
    except (FileNotFoundError, InvalidToken, UnicodeDecodeError):
        return new_owner_token(file)


def new_owner_token(file: Path) -> ApiToken:
    """Draws one in the place of what the file has. Raises OSError."""
    token = draw_token(secrets.token_bytes(DRAWN_BYTES))
    replace_secret(file, token.text.encode() + b"\n")
    return token


def is_of_no_use(token: ApiToken, stored: StoredToken | None) -> bool:
    """Whether its keeper has revoked it, or has another one by its id: a new one is needed."""
    return stored is not None and (stored.revoked_at is not None or stored.secret_sha256 != token.secret_sha256)
