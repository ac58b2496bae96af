"""The API tokens that control keeps: those with the scopes `view` and `operate`, in `tokens.json` of its own folder.

The `headwater tokens` command writes the file (one writer at a time, replaced as a whole), control reads it when it has changed:
a token that is made or revoked counts at the next request, and tokens can be made before control runs. Digests only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from headwater.rules.apitokens import Scope, StoredToken
from headwater.runtime.wholefiles import keep_json, kept_json, stamp_of, writing_alone
from headwater.settings.deployment import Deployment

FILE: Final = "tokens.json"


class TokenBookError(Exception):
    """The file cannot be read or written; the message names it and the cure."""


class TokenBook:
    """Methods block for a small file: call them in a thread. Raise TokenBookError."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._reading = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: dict[str, StoredToken] = {}

    def find(self, token_id: str) -> StoredToken | None:
        """The token of that id as the file has it now."""
        with self._reading:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._tokens = {token.id: token for token in self._read()}
                self._stamp = stamp
            return self._tokens.get(token_id)

    def all(self) -> list[StoredToken]:
        """Oldest first, revoked ones too."""
        return sorted(self._read(), key=lambda token: (token.created_at, token.id))

    def keep(self, token: StoredToken) -> None:
        """Adds the token, or replaces the one with its id."""
        self._change(lambda tokens: {**tokens, token.id: token})

    def revoke(self, token_id: str, now: float) -> bool:
        """False when there is none with this id. One that was revoked before keeps its time."""
        known = {token.id: token for token in self._read()}.get(token_id)
        if known is not None and known.revoked_at is None:
            self._change(lambda tokens: {**tokens, token_id: replace(tokens[token_id], revoked_at=now)})
        return known is not None

    def _change(self, change: Callable[[dict[str, StoredToken]], dict[str, StoredToken]]) -> None:
        with self._writing():
            tokens = change({token.id: token for token in self._read()})
            try:
                keep_json(self._file, {"tokens": [_members(token) for token in tokens.values()]})
            except OSError as error:
                raise self._trouble("written", error) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time, whichever process it is in."""
        with ExitStack() as held:
            try:
                held.enter_context(writing_alone(self._file.with_suffix(".lock")))
            except OSError as error:
                raise self._trouble("written", error) from error
            yield

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            return stamp_of(self._file)
        except OSError as error:
            raise self._trouble("read", error) from error

    def _read(self) -> list[StoredToken]:
        try:
            kept = kept_json(self._file)
            return [] if kept is None else [_stored(members) for members in kept["tokens"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._trouble("read", error) from error

    def _trouble(self, verb: str, error: Exception) -> TokenBookError:
        return TokenBookError(
            f"{self._file} cannot be {verb} ({error}): run this as the user who runs control, and restore or remove a damaged "
            "file (its tokens have to be made anew then)"
        )


def book_of(deployment: Deployment) -> TokenBook:
    """The book of the deployment's control, which this machine has in its data folder."""
    return TokenBook(deployment.data / "nodes" / "control")


def _members(token: StoredToken) -> dict[str, Any]:
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
