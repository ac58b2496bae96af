"""Why a node gets no certificate, or its certificate no answer. The words are the problems' types and the metrics' labels."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from headwater.runtime.problems import Problem


class Refusal(StrEnum):
    TOKEN_MALFORMED = "enrol-token-malformed"
    TOKEN_UNKNOWN = "enrol-token-unknown"  # no such id, or another secret: the two are not told apart
    TOKEN_USED = "enrol-token-used"
    TOKEN_EXPIRED = "enrol-token-expired"
    TOKEN_ENDED = "enrol-token-ended"
    TOKEN_OF_ANOTHER = "enrol-token-of-another-node"
    NODE_UNKNOWN = "enrol-node-unknown"
    REQUEST_INVALID = "enrol-request-invalid"
    CSR_TOO_LARGE = "csr-too-large"
    CSR_UNREADABLE = "csr-unreadable"
    CSR_KEY = "csr-key"
    CSR_SIGNATURE = "csr-signature"
    CSR_NAME = "csr-name"
    CSR_EXTENSIONS = "csr-extensions"
    CERTIFICATE_MISSING = "certificate-missing"
    CERTIFICATE_FOREIGN = "certificate-foreign"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_REVOKED = "certificate-revoked"
    CERTIFICATE_REPLACED = "certificate-replaced"

    @property
    def status(self) -> int:
        return 400 if self in _MALFORMED else 403

    @property
    def heading(self) -> str:
        return self.value.replace("-", " ").capitalize()


_MALFORMED: Final = frozenset(
    (
        Refusal.TOKEN_MALFORMED,
        Refusal.REQUEST_INVALID,
        Refusal.CSR_TOO_LARGE,
        Refusal.CSR_UNREADABLE,
        Refusal.CSR_KEY,
        Refusal.CSR_SIGNATURE,
        Refusal.CSR_NAME,
        Refusal.CSR_EXTENSIONS,
    )
)


class EnrolmentRefused(Exception):
    """`detail` says what would mend it."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail

    def problem(self) -> Problem:
        return Problem(self.refusal.status, self.refusal, self.refusal.heading, self.detail)


def anew(node: str) -> str:
    """The cure of nearly all of them."""
    return f"`headwater enrol token {node}` on control's machine makes a new token"
