"""How a node asks control for a certificate: first with a token, over TLS to the CA that it names; then with the old one."""

from __future__ import annotations

import hashlib
import json
import ssl
from enum import StrEnum
from typing import Any, Final

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headwater.rules.addresses import Address
from headwater.rules.enroltokens import EnrolToken
from headwater.rules.nodeidentity import CONTROL
from headwater.runtime.enrolment.identity import Identity, signing_request
from headwater.runtime.metrics import counter

TIMEOUT_S: Final = 10.0
LONGEST_ANSWER_BYTES: Final = 64 * 1024


class Asked(StrEnum):
    """How a question for a certificate ends; also the metric's label."""

    ENROLLED = "enrolled"
    RENEWED = "renewed"
    REFUSED = "refused"  # by control, which counts why
    WRONG_AUTHORITY = "wrong_authority"  # whoever answers is not the control that made the token
    BAD_TOKEN = "bad_token"
    NO_ANSWER = "no_answer"


ENROLMENTS = counter("headwater_enrolments_total", "This node's questions for a certificate, by how they ended.", ["outcome"])


class NotEnrolled(Exception):
    """There is no certificate. `kind` is control's word for a refusal; the message says what would mend it."""

    def __init__(self, outcome: Asked, detail: str, kind: str = "") -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.kind = kind


def wish_of(node: str, key: ec.EllipticCurvePrivateKey, node_token_sha256: str) -> dict[str, str]:
    """What control is told of whoever asks."""
    return {"node": node, "csr": signing_request(key, node).decode("ascii"), "node_token_sha256": node_token_sha256}


async def enrol(control: Address, token: EnrolToken, wish: dict[str, str]) -> tuple[bytes, bytes]:
    """(certificate, authority), both PEM. Raises NotEnrolled.

    The authority is fetched from whoever answers, and believed if it is the one in the token; only then the token is shown.
    """
    pinned = await _authority(control, token)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=pinned.decode("ascii"))
    answer = await _ask("POST", control, "certificate", context, {"token": token.text, **wish})
    return _certificate(answer, wish["node"]), pinned


async def renew(control: Address, identity: Identity, wish: dict[str, str]) -> bytes:
    """A new certificate (PEM) for the one that this node has. Raises NotEnrolled."""
    return _certificate(await _ask("POST", control, "renewal", identity.client, wish), wish["node"])


async def _authority(control: Address, token: EnrolToken) -> bytes:
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE  # what comes is compared with the token, and nothing is sent
    answer = await _ask("GET", control, "authority", blind)
    try:
        certificate = x509.load_pem_x509_certificate(str(answer["authority"]).encode("ascii"))
    except (KeyError, ValueError, TypeError) as error:
        raise NotEnrolled(Asked.NO_ANSWER, f"{control} does not answer as control does: {error!r}") from error
    if hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest() != token.authority:
        raise NotEnrolled(
            Asked.WRONG_AUTHORITY,
            f"{control} is not the control that made this token (its CA is another one), so the token was not shown to it: check "
            "control.enrolment.listen, and who answers there. Where control was set up anew, make a new token",
        )
    return certificate.public_bytes(serialization.Encoding.PEM)


async def _ask(
    method: str, control: Address, what: str, context: ssl.SSLContext, members: dict[str, str] | None = None
) -> dict[str, Any]:
    url = f"https://{control}/api/v1/enrolment/{what}"
    named = CONTROL if context.check_hostname else None
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S), trust_env=False) as session,
            session.request(method, url, json=members, ssl=context, server_hostname=named, allow_redirects=False) as answer,
        ):
            said = await answer.content.read(LONGEST_ANSWER_BYTES)
            content = _members(said)
            if answer.status != 200:
                kind = str(content.get("type", "")).rpartition(":")[2]
                raise NotEnrolled(Asked.REFUSED, str(content.get("detail", f"status {answer.status}"))[:500], kind)
            return content
    except aiohttp.ClientConnectorCertificateError as error:
        detail = f"{control} does not show a certificate of control's CA ({error.certificate_error}); check who answers there"
        raise NotEnrolled(Asked.WRONG_AUTHORITY, detail) from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError) as error:
        raise NotEnrolled(Asked.NO_ANSWER, f"control does not answer at {control} ({error or type(error).__name__})") from error


def _members(said: bytes) -> dict[str, Any]:
    content = json.loads(said)
    if not isinstance(content, dict):
        raise TypeError("no JSON object")
    return content


def _certificate(answer: dict[str, Any], node: str) -> bytes:
    try:
        return x509.load_pem_x509_certificate(str(answer["certificate"]).encode("ascii")).public_bytes(serialization.Encoding.PEM)
    except (KeyError, ValueError, TypeError) as error:
        raise NotEnrolled(Asked.NO_ANSWER, f"control answers {node} with no certificate: {error!r}") from error
