"""A node's way to its certificate, and how it keeps one for ever: a token at first, then a renewal at half of every lifetime.

The token comes from the environment (HEADWATER_ENROL) or from the file `enrol.token` in the node's folder, which is removed when
it was used; a file that appears later is taken up without a restart. What came of a node's certificates never stops it from
serving viewers: only a node that never had one does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headwater.rules.enroltokens import EnrolToken, InvalidEnrolToken, parse_enrol_token
from headwater.rules.nodeidentity import CONTROL
from headwater.runtime.enrolment.asking import ENROLMENTS, Asked, NotEnrolled, enrol, renew, wish_of
from headwater.runtime.enrolment.identity import FILE, Identity, IdentityUnusable, new_key, private_pem, write_identity
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.logs import Log
from headwater.runtime.wholefiles import replace_secret
from headwater.settings.deployment import Deployment, Role, nodes_of

VARIABLE: Final = "HEADWATER_ENROL"
TOKEN_FILE: Final = Path("enrol.token")
LOOK_S: Final = 1.0
RETRY_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
LONGEST_WAIT_S: Final = 5.0  # of a first start, for which somebody waits
NOT_YET: Final = "enrol-node-unknown"  # the rollout that adds this node has not begun
NEEDS_NONE: Final[frozenset[Role]] = frozenset(("control", "origin-transcoder"))  # who signs for itself, and who speaks to nobody


class Joining:
    """One node's enrolment. `node_token` is what it shows to the tiers that it asks."""

    def __init__(self, node: str, deployment: Deployment, folder: Path, node_token: str, log: Log) -> None:
        assert deployment.control.enrolment is not None
        self._node = node
        self._control = deployment.control.enrolment.listen
        self._folder = folder
        self._digest = hashlib.sha256(node_token.encode()).hexdigest()
        self._log = log
        self._file = folder / FILE
        self._key_file = self._file.with_name("next.key")
        self._used_file = self._file.with_name("used")

    async def first(self) -> Identity:
        """This node's identity, got with a token if there is none yet. Waits for a control that is away. Raises CannotStart."""
        identity = self._held()
        pause_s = RETRY_S
        while True:
            try:
                token = self._token()
                if token is not None and await asyncio.to_thread(self._is_new, token):
                    await self._enrol(token)
                    return Identity(self._file, self._log)
                break
            except NotEnrolled as error:
                if identity is not None:
                    self._log.error("the new token gives no certificate; the node goes on with its old one", error=str(error))
                    break
                if error.outcome is not Asked.NO_ANSWER and error.kind != NOT_YET:
                    raise CannotStart(f"this node is not enrolled: {error}.") from error
                self._log.warning("the node waits for control, to enrol", error=str(error), next_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_WAIT_S)
        if identity is None:
            raise CannotStart(
                f"this node is not enrolled: `headwater enrol token {self._node}` on control's machine makes a token; start the "
                f"node with it in {VARIABLE}, or in {self._folder / TOKEN_FILE}."
            )
        if identity.expired():
            self._log.error("the node's certificate has expired; it serves on by its last snapshot", cure=self._cure())
        return identity

    async def keep(self, identity: Identity) -> None:
        """Renews at half of each lifetime, and takes up a new token when there is one, for ever."""
        pause_s, again_at = RETRY_S, 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            identity.look()
            if time.monotonic() < again_at:
                continue
            try:
                if await self._enrolled_anew() or await self._renewed(identity):
                    identity.look()
                    pause_s = RETRY_S
            except NotEnrolled as error:
                self._log.error("the node gets no new certificate", error=str(error), cure=self._cure(), next_in_s=pause_s)
                again_at = time.monotonic() + pause_s
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _enrolled_anew(self) -> bool:
        """Whether there was a new token. One that gives nothing is put aside: its file is named `enrol.token.refused` then."""
        file = self._folder / TOKEN_FILE
        try:
            token = self._token_in_file()
            if token is None:
                return False
            if not await asyncio.to_thread(self._is_new, token):
                file.unlink(missing_ok=True)  # a kill came between its use and its removal
                return False
            await self._enrol(token)
        except NotEnrolled as error:
            if error.outcome is not Asked.NO_ANSWER and error.kind != NOT_YET:
                with contextlib.suppress(OSError):
                    file.replace(file.with_name(f"{TOKEN_FILE}.refused"))
            raise
        return True

    async def _renewed(self, identity: Identity) -> bool:
        """Whether it was time to, and done."""
        if not identity.held.renewal_due(time.time()):
            return False
        await self._renew(identity)
        return True

    async def _enrol(self, token: EnrolToken) -> None:
        key = await asyncio.to_thread(self._next_key)
        try:
            certificate, authority = await enrol(self._control, token, wish_of(self._node, key, self._digest))
        except NotEnrolled as error:
            ENROLMENTS.labels(error.outcome).inc()
            raise
        await asyncio.to_thread(self._keep, key, certificate, authority, token)
        ENROLMENTS.labels(Asked.ENROLLED).inc()
        self._log.info("enrolled", control=str(self._control))

    async def _renew(self, identity: Identity) -> None:
        key = new_key()
        try:
            certificate = await renew(self._control, identity, wish_of(self._node, key, self._digest))
        except NotEnrolled as error:
            ENROLMENTS.labels(error.outcome).inc()
            raise
        await asyncio.to_thread(write_identity, self._file, key, certificate, identity.held.authority)
        ENROLMENTS.labels(Asked.RENEWED).inc()
        self._log.info("certificate renewed")

    def _held(self) -> Identity | None:
        try:
            return Identity(self._file, self._log)
        except IdentityUnusable as error:
            if self._file.exists():
                self._log.error("the node's certificate cannot be used; it has to enrol anew", error=str(error))
            return None

    def _token(self) -> EnrolToken | None:
        """The token that was given; a file comes before the environment. Raises NotEnrolled for a text that is none."""
        return self._token_in_file() or _parsed(os.environ.get(VARIABLE, ""), VARIABLE)

    def _token_in_file(self) -> EnrolToken | None:
        file = self._folder / TOKEN_FILE
        try:
            return _parsed(file.read_text(encoding="ascii"), str(file))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            ENROLMENTS.labels(Asked.BAD_TOKEN).inc()
            raise NotEnrolled(Asked.BAD_TOKEN, f"{file} cannot be read: {error}") from error

    def _is_new(self, token: EnrolToken) -> bool:
        """Whether this node has not enrolled with it before: a token stays in the environment of a service for long."""
        try:
            return not self._file.exists() or self._used_file.read_text(encoding="ascii").strip() != token.id
        except OSError:
            return True

    def _next_key(self) -> ec.EllipticCurvePrivateKey:
        """The key to be signed, on disk before control hears of it: a node that is killed on the way asks again with the same."""
        try:
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                return key
        except (OSError, ValueError, TypeError):
            pass
        made = new_key()
        replace_secret(self._key_file, private_pem(made))
        return made

    def _keep(self, key: ec.EllipticCurvePrivateKey, certificate: bytes, authority: bytes, token: EnrolToken) -> None:
        write_identity(self._file, key, certificate, authority)
        replace_secret(self._used_file, token.id.encode("ascii") + b"\n")
        self._key_file.unlink(missing_ok=True)
        (self._folder / TOKEN_FILE).unlink(missing_ok=True)

    def _cure(self) -> str:
        made = f"`headwater enrol token {self._node}` on control's machine makes a token"
        return f"{made}; put it into {self._folder / TOKEN_FILE}, and the node enrols at once"


def _parsed(text: str, where: str) -> EnrolToken | None:
    if not text.strip():
        return None
    try:
        return parse_enrol_token(text)
    except InvalidEnrolToken as error:
        ENROLMENTS.labels(Asked.BAD_TOKEN).inc()
        raise NotEnrolled(Asked.BAD_TOKEN, f"{where}: {error}") from error


def enrols(deployment: Deployment, node: str) -> bool:
    """Whether the node has a certificate of control's CA in this deployment."""
    return deployment.control.enrolment is not None and nodes_of(deployment).get(node) not in NEEDS_NONE and node != CONTROL
