"""The enrolment office: authority and book together, for control's sites and `headwater up`. Blocking: call it in a thread."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from control.enrolment.authority import FILE, Authority, open_authority
from control.enrolment.book import EnrolmentBook
from control.enrolment.ledger import (
    Ledger,
    NodeIdentityOf,
    StoredToken,
    check,
    issued,
    redeemed,
    revoked,
    with_token,
)
from control.enrolment.refusals import EnrolmentRefused, Refusal
from control.enrolment.requests import key_digest, requested_key
from headwater.rules.enroltokens import DRAWN_BYTES, EnrolToken, InvalidEnrolToken, draw_enrol_token, parse_enrol_token
from headwater.rules.nodeidentity import CONTROL, NodeIdentity, can_be_named
from headwater.runtime.enrolment.joining import NEEDS_NONE
from headwater.settings.deployment import Deployment, nodes_of

ADDED_LATER: Final = ("edge", "shield")  # the roles of which a deployment gets more


@dataclass(frozen=True, slots=True)
class Wish:
    """What a node asks with, once its form is right."""

    node: str
    key: ec.EllipticCurvePublicKey
    token_sha256: str


class EnrolmentOffice:
    """`deployment` gives the config in force: who may enrol, and for how long a certificate holds."""

    def __init__(self, folder: Path, deployment: Callable[[], Deployment], *, clock: Callable[[], float] = time.time) -> None:
        self._deployment = deployment
        self._clock = clock
        self.book = EnrolmentBook(folder)
        self.is_new = not (folder / FILE).exists()
        self.authority: Authority = open_authority(folder, deployment().name, clock())

    @property
    def deployment(self) -> Deployment:
        return self._deployment()

    def make_token(self, node: str, lasts_s: float, role_to_be: str | None = None) -> EnrolToken:
        """A token for a node of the config, or for one that it is about to have as `role_to_be`. Raises EnrolmentRefused."""
        role = self._role(node) or (role_to_be if can_be_named(node) and role_to_be in ADDED_LATER else None)
        if role is None or role in NEEDS_NONE or (role_to_be is not None and role_to_be != role):
            known = ", ".join(name for name, one in nodes_of(self._deployment()).items() if one not in NEEDS_NONE)
            detail = f"{node[:64]!r} is no node that enrols{f' as {role_to_be[:20]}' if role_to_be else ''}; there are {known}. "
            raise EnrolmentRefused(Refusal.NODE_UNKNOWN, detail + "A node that is yet to come takes --role edge or --role shield")
        now = self._clock()
        token = draw_enrol_token(secrets.token_bytes(DRAWN_BYTES), self.authority.fingerprint)
        stored = StoredToken(token.id, token.secret_sha256, node, role, now, now + lasts_s)
        self.book.change(lambda ledger: (with_token(ledger, stored), None))
        return token

    def enrol(self, token: str, wish: Wish) -> bytes:
        """Uses the token up; the node's certificate (PEM). Raises EnrolmentRefused."""
        try:
            shown = parse_enrol_token(token)
        except InvalidEnrolToken as error:
            raise EnrolmentRefused(Refusal.TOKEN_MALFORMED, str(error)) from error
        now, role, digest = self._clock(), self._role(wish.node), key_digest(wish.key)
        # On disk before anything is signed: killed in between, the same key asks again and gets the same enrolment.
        enrolled = self.book.change(lambda ledger: redeemed(ledger, shown, wish.node, role, digest, now))
        return self._sign(enrolled, wish, now)

    def renew(self, identity: NodeIdentity, wish: Wish) -> bytes:
        """A new certificate of the enrolment that the node shows. Raises EnrolmentRefused."""
        self.admit(identity)
        if wish.node != identity.node:
            raise EnrolmentRefused(
                Refusal.CSR_NAME, f"{identity.node} may renew its own certificate, not that of {wish.node[:64]!r}"
            )
        return self._sign(NodeIdentityOf(identity.node, identity.role, identity.enrolment), wish, self._clock())

    def admit(self, identity: NodeIdentity) -> str:
        """The node whose certificate it is. Raises EnrolmentRefused when it does not count (any more)."""
        deployment = self._deployment()
        check(self.book.look(), identity, deployment.name, self._role(identity.node))
        return identity.node

    def revoke(self, node: str) -> None:
        """Raises EnrolmentRefused."""
        now, role = self._clock(), self._role(node)
        self.book.change(lambda ledger: (revoked(ledger, node, role, now), None))

    def for_control(self, key: ec.EllipticCurvePublicKey) -> bytes:
        """Control's own certificate, which lets it order."""
        now = self._clock()
        identity = NodeIdentity(self._deployment().name, CONTROL, CONTROL, int(now))
        return self.authority.issue(identity, key, now, self._lifetime_s())

    def wish(self, members: Any) -> Wish:
        """What a request's JSON asks for: {node, csr, node_token_sha256}. Raises EnrolmentRefused."""
        try:
            node, csr, digest = (members[name] for name in ("node", "csr", "node_token_sha256"))
            if not all(isinstance(one, str) for one in (node, csr, digest)) or len(digest) != 64 or int(digest, 16) < 0:
                raise ValueError("texts were expected, the digest in 64 hex digits")
            return Wish(node, requested_key(csr.encode(), node), digest)
        except (KeyError, TypeError, ValueError) as error:
            detail = f"{{node, csr, node_token_sha256}} was expected: {str(error)[:200]}"
            raise EnrolmentRefused(Refusal.REQUEST_INVALID, detail) from error

    def ledger(self) -> Ledger:
        return self.book.look()

    def _sign(self, enrolled: NodeIdentityOf, wish: Wish, now: float) -> bytes:
        lifetime_s = self._lifetime_s()
        self.book.change(lambda ledger: (issued(ledger, enrolled, now + lifetime_s, wish.token_sha256), None))
        return self.authority.issue(enrolled.within(self._deployment().name), wish.key, now, lifetime_s)

    def _role(self, node: str) -> str | None:
        return nodes_of(self._deployment()).get(node)

    def _lifetime_s(self) -> float:
        settings = self._deployment().control.enrolment
        assert settings is not None
        return settings.lifetime
