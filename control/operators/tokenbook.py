"""The API tokens that control keeps: those with the scopes `view` and `operate`, in `tokens.json` of its own folder.

The `headwater tokens` command writes the file (one writer at a time, replaced as a whole), control reads it when it has changed:
a token that is made or revoked counts at the next request, and tokens can be made before control runs. Digests only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from control.bookfile import BookFile
from headwater.rules.apitokens import Scope, StoredToken
from headwater.settings.deployment import Deployment

FILE: Final = "tokens.json"
Tokens = dict[str, StoredToken]


class TokenBookError(Exception):
    """The file cannot be read or written; the message names it and the cure."""


class TokenBook:
    """Methods block for a small file: call them in a thread. Raise TokenBookError."""

    def __init__(self, folder: Path) -> None:
        self._name = folder / FILE
        self._file: BookFile[Tokens] = BookFile(self._name, _tokens, _members, self._trouble)

    def find(self, token_id: str) -> StoredToken | None:
        """The token of that id as the file has it now."""
        return self._file.look().get(token_id)

    def all(self) -> list[StoredToken]:
        """Oldest first, revoked ones too."""
        return sorted(self._file.look().values(), key=lambda token: (token.created_at, token.id))

    def keep(self, token: StoredToken) -> None:
        """Adds the token, or replaces the one with its id."""
        self._file.change(lambda tokens: ({**tokens, token.id: token}, None))

    def revoke(self, token_id: str, now: float) -> bool:
        """False when there is none with this id. One that was revoked before keeps its time."""

        def revoked(tokens: Tokens) -> tuple[Tokens, bool]:
            known = tokens.get(token_id)
            if known is None or known.revoked_at is not None:
                return tokens, known is not None
            return {**tokens, token_id: replace(known, revoked_at=now)}, True

        return self._file.change(revoked)

    def _trouble(self, verb: str, error: Exception) -> TokenBookError:
        return TokenBookError(
            f"{self._name} cannot be {verb} ({error}): run this as the user who runs control, and restore or remove a damaged "
            "file (its tokens have to be made anew then)"
        )


def book_of(deployment: Deployment) -> TokenBook:
    """The book of the deployment's control, which this machine has in its data folder."""
    return TokenBook(deployment.data / "nodes" / "control")


def _tokens(kept: Any) -> Tokens:
    """Raises KeyError, TypeError or ValueError."""
    found = [] if kept is None else [_stored(members) for members in kept["tokens"]]
    return {token.id: token for token in found}


def _members(tokens: Tokens) -> dict[str, Any]:
    return {"tokens": [_token_members(token) for token in tokens.values()]}


def _token_members(token: StoredToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "secret_sha256": token.secret_sha256,
        "scopes": sorted(token.scopes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }


def _stored(members: dict[str, Any]) -> StoredToken:
    """Raises KeyError, TypeError or ValueError."""
    return StoredToken(
        id=str(members["id"]),
        name=str(members["name"]),
        secret_sha256=str(members["secret_sha256"]),
        scopes=frozenset(Scope(scope) for scope in members["scopes"]),
        created_at=float(members["created_at"]),
        expires_at=None if members["expires_at"] is None else float(members["expires_at"]),
        revoked_at=None if members["revoked_at"] is None else float(members["revoked_at"]),
    )
