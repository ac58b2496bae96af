"""Who the nodes are: the digests of the tokens that they show each other, and with enrolment whose certificates count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from control.enrolment.ledger import EnrolledNode, Ledger
from control.enrolment.state import certificates_of
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.nodetoken import read_token, token_digest
from headwater.settings.deployment import Deployment


class KnownNodes:
    """`ledger` reads the book of enrolment, and `identity` is control's own certificate; both None without enrolment."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._entries: dict[str, EnrolledNode] = {}
        self.ledger: Callable[[], Ledger] | None = None
        self.identity: Identity | None = None
        self.tokens: dict[str, str] = {}

    @property
    def enrolments(self) -> dict[str, int]:
        return {node: entry.enrolment for node, entry in self._entries.items()}

    @property
    def revoked(self) -> frozenset[str]:
        return frozenset(node for node, entry in self._entries.items() if entry.revoked_at is not None)

    async def look(self, nodes: Iterable[str]) -> bool:
        """Reads what is known of these nodes; whether something that others must hear of is new."""
        tokens, entries = await asyncio.to_thread(self._read, list(nodes))
        before = (self.tokens, self.enrolments)
        self.tokens, self._entries = tokens, entries
        return before != (self.tokens, self.enrolments)

    def certificates(self, deployment: Deployment, now: float) -> dict[str, dict[str, Any]]:
        """By node, its certificate as operators see it."""
        if self.ledger is None:
            return {}
        return {one["node"]: one for one in certificates_of(deployment, Ledger(nodes=self._entries), now)}

    def _read(self, nodes: list[str]) -> tuple[dict[str, str], dict[str, EnrolledNode]]:
        """An enrolled node has told the digest of its token, a revoked one has none; those of others are in this data folder."""
        known = self.ledger().nodes if self.ledger is not None else {}
        entries = {node: known[node] for node in nodes if node in known}
        tokens = {
            node: entries[node].token_sha256 if node in entries else token_digest(read_token(self._data, node)) for node in nodes
        }
        return {node: token for node, token in tokens.items() if token}, entries
