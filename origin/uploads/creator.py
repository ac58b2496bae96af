"""Whose an upload is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Creator:
    """`name` is that of the API token, None where no token is required; `manages`: may act for everybody; `token_id`: the token
    that asks, which what is handed out on its word (part URLs, sessions) does not outlive."""

    name: str | None
    manages: bool
    token_id: str | None = None

    def may_touch(self, owner: str | None) -> bool:
        """Whether an upload of `owner` is this creator's to go on with. One that nobody owns is anybody's."""
        return self.manages or owner is None or owner == self.name


ANYBODY: Final = Creator(name=None, manages=True)  # where the deployment requires no token
