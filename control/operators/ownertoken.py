"""The token that a lab makes for its own user, so that the commands and the page work at once: `tokens/operator`, mode 0600."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Final

from control.keeping import keep
from control.operators.tokenbook import book_of
from headwater.rules.apitokens import DRAWN_BYTES, ApiToken, InvalidToken, Scope, StoredToken, draw_token, parse_token
from headwater.settings.deployment import Deployment

OPERATOR_FILE: Final = Path("tokens") / "operator"
OPERATOR_NAME: Final = "operator"


def ensure_operator_token(deployment: Deployment) -> ApiToken:
    """The token in the data folder, known to control. One that was revoked is replaced. Blocks. Raises TokenBookError or OSError.

    The text is on disk before its digest is in the book: killed in between, the next start adds the same digest.
    """
    file, book = deployment.data / OPERATOR_FILE, book_of(deployment)
    token = _read(file) or _write(file)
    stored = book.find(token.id)
    if stored is not None and (stored.revoked_at is not None or stored.secret_sha256 != token.secret_sha256):
        token, stored = _write(file), None
    if stored is None:
        book.keep(StoredToken(token.id, OPERATOR_NAME, token.secret_sha256, frozenset({Scope.OPERATE}), time.time()))
    return token


def _read(file: Path) -> ApiToken | None:
    try:
        return parse_token(file.read_text(encoding="ascii"))
    except (FileNotFoundError, InvalidToken, UnicodeDecodeError):
        return None


def _write(file: Path) -> ApiToken:
    token = draw_token(secrets.token_bytes(DRAWN_BYTES))
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keep(file, token.text.encode() + b"\n")
    return token
