"""The law of enrolment, as pure changes of one value: which tokens there are, and whose certificates count.

- A token is for one node in one role. A new one ends the node's former tokens; revoking the node ends them too.
- A token is used up by the first key that shows it, before that key gets anything. The same key may ask again while the token has
  not expired (its answer was lost): it gets the same enrolment. Every other key is refused.
- Each enrolment of a node ends the certificates of its former ones: a machine that was replaced is no node any more.
- Revoking ends all certificates that there are, also those of which this ledger knows nothing (it may come from an old copy).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from control.enrolment.refusals import EnrolmentRefused, Refusal, anew
from headwater.rules.enroltokens import EnrolToken
from headwater.rules.nodeidentity import NodeIdentity

REMEMBERED_S: Final = 30 * 86400.0  # a token that has ended is listed, and told from an unknown one, for so long


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as control keeps it. `used_by` is the SHA-256 (hex) of the key that used it; times are Unix seconds."""

    id: str
    secret_sha256: str
    node: str
    role: str
    made_at: float
    expires_at: float
    ended_at: float | None = None
    used_at: float | None = None
    used_by: str | None = None
    enrolment: int | None = None

    def state(self, now: float) -> str:
        if self.used_at is not None:
            return "used"
        if self.ended_at is not None:
            return "ended"
        return "expired" if now >= self.expires_at else "open"


@dataclass(frozen=True, slots=True)
class EnrolledNode:
    """What is known of a node's certificates: those of enrolments before `enrolment` are refused.

    `expires_at` is that of the latest certificate, `token_sha256` the digest of the token that it shows to other nodes.
    """

    node: str
    role: str
    enrolment: int
    enrolled_at: float | None = None
    revoked_at: float | None = None
    expires_at: float | None = None
    token_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """Tokens by id, nodes by name."""

    tokens: Mapping[str, StoredToken] = field(default_factory=dict)
    nodes: Mapping[str, EnrolledNode] = field(default_factory=dict)


def with_token(ledger: Ledger, token: StoredToken) -> Ledger:
    """The node's tokens that nobody has used end with the new one."""
    now = token.made_at
    kept = {one.id: one for one in _ended(ledger.tokens, token.node, now).values() if one.expires_at > now - REMEMBERED_S}
    return replace(ledger, tokens={**kept, token.id: token})


def redeemed(
    ledger: Ledger, shown: EnrolToken, node: str, role: str | None, key_sha256: str, now: float
) -> tuple[Ledger, NodeIdentityOf]:
    """Uses the token up for a key; the ledger afterwards, and what the certificate is to say. Raises EnrolmentRefused.

    `role` is the node's role in the config in force, None when it is not in there. Who has not the secret learns nothing else.
    """
    token = ledger.tokens.get(shown.id)
    if token is None or not hmac.compare_digest(token.secret_sha256, shown.secret_sha256):
        detail = f"this token is not known here; {anew(node)}"
        raise EnrolmentRefused(Refusal.TOKEN_UNKNOWN, detail)
    if token.node != node:
        detail = f"token {token.id} is for {token.node}, not for {node}; {anew(node)}"
        raise EnrolmentRefused(Refusal.TOKEN_OF_ANOTHER, detail)
    if role is None:
        detail = f"the config in force has no node {node}: add it, `headwater apply` it, then enrol it"
        raise EnrolmentRefused(Refusal.NODE_UNKNOWN, detail)
    if token.role != role:
        detail = f"token {token.id} is for {node} as {token.role}, which the config now has as {role}; {anew(node)}"
        raise EnrolmentRefused(Refusal.TOKEN_OF_ANOTHER, detail)
    if now >= token.expires_at:
        raise EnrolmentRefused(Refusal.TOKEN_EXPIRED, f"token {token.id} has expired; {anew(node)}")
    if token.used_by is not None and token.used_by != key_sha256:
        stolen = f"if that was not you, `headwater enrol revoke {node}`"
        detail = f"token {token.id} has been used already, by another key: {stolen}; {anew(node)}"
        raise EnrolmentRefused(Refusal.TOKEN_USED, detail)
    known = ledger.nodes.get(node)
    if token.ended_at is not None or (token.used_by is not None and (known is None or known.enrolment != token.enrolment)):
        detail = f"token {token.id} was ended by a later one, or with its node; {anew(node)}"
        raise EnrolmentRefused(Refusal.TOKEN_ENDED, detail)
    if token.used_by is not None and token.enrolment is not None:
        return ledger, NodeIdentityOf(node, role, token.enrolment)
    enrolment = max(int(now), known.enrolment + 1 if known is not None else 0)
    used = replace(token, used_at=now, used_by=key_sha256, enrolment=enrolment)
    entry = EnrolledNode(node, role, enrolment, enrolled_at=now)
    after = Ledger({**ledger.tokens, token.id: used}, {**ledger.nodes, node: entry})
    return after, NodeIdentityOf(node, role, enrolment)


def issued(ledger: Ledger, of: NodeIdentityOf, expires_at: float, token_sha256: str) -> Ledger:
    """A certificate of this enrolment is to be made. One that is unknown here, as this ledger is an older copy, is learnt.
    Raises EnrolmentRefused when the enrolment was ended meanwhile."""
    known = ledger.nodes.get(of.node) or EnrolledNode(of.node, of.role, of.enrolment)
    _check_enrolment(known, of.enrolment)
    entry = replace(
        known, role=of.role, enrolment=of.enrolment, expires_at=expires_at, token_sha256=token_sha256, revoked_at=None
    )
    return replace(ledger, nodes={**ledger.nodes, of.node: entry})


def revoked(ledger: Ledger, node: str, role: str | None, now: float) -> Ledger:
    """No certificate of the node that there is counts any more. Raises EnrolmentRefused for a node of which nothing is known."""
    known = ledger.nodes.get(node)
    if known is None and role is None:
        raise EnrolmentRefused(Refusal.NODE_UNKNOWN, f"there is no node {node}: neither enrolled nor in the config")
    enrolment = max(int(now), known.enrolment if known is not None else 0) + 1
    entry = replace(
        known or EnrolledNode(node, role or "", enrolment),
        enrolment=enrolment,
        revoked_at=now,
        token_sha256=None,
        expires_at=None,
    )
    return Ledger(_ended(ledger.tokens, node, now), {**ledger.nodes, node: entry})


def check(ledger: Ledger, identity: NodeIdentity, deployment: str, role: str | None) -> None:
    """Raises EnrolmentRefused when the owner of a certificate that our CA signed is no node (any more)."""
    node = identity.node
    if identity.deployment != deployment:
        detail = f"the certificate is of the deployment {identity.deployment}, this is {deployment}"
        raise EnrolmentRefused(Refusal.CERTIFICATE_FOREIGN, detail)
    known = ledger.nodes.get(node)
    if known is not None:
        _check_enrolment(known, identity.enrolment)
    if role is None or identity.role != role:
        detail = f"the config in force has no {identity.role} {node}: add it, or `headwater enrol revoke {node}`; {anew(node)}"
        raise EnrolmentRefused(Refusal.NODE_UNKNOWN, detail)


@dataclass(frozen=True, slots=True)
class NodeIdentityOf:
    """An enrolment: the identity of a certificate but for the deployment's name."""

    node: str
    role: str
    enrolment: int

    def within(self, deployment: str) -> NodeIdentity:
        return NodeIdentity(deployment, self.role, self.node, self.enrolment)


def _check_enrolment(known: EnrolledNode, enrolment: int) -> None:
    if enrolment >= known.enrolment:
        return
    if known.revoked_at is not None:
        raise EnrolmentRefused(Refusal.CERTIFICATE_REVOKED, f"{known.node} was revoked; {anew(known.node)}")
    raise EnrolmentRefused(Refusal.CERTIFICATE_REPLACED, f"{known.node} was enrolled anew elsewhere; {anew(known.node)}")


def _ended(tokens: Mapping[str, StoredToken], node: str, now: float) -> dict[str, StoredToken]:
    return {
        one.id: replace(one, ended_at=now) if one.node == node and one.used_at is None and one.ended_at is None else one
        for one in tokens.values()
    }
