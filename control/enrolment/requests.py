"""What a node may ask to have signed: a PKCS #10 request for a P-256 key of its own, in its own name, and nothing else.

Only the key is taken from it; the names in the certificate are control's to write. A request that asks for more is refused rather
than trimmed: whoever wrote it meant something else.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from control.enrolment.refusals import EnrolmentRefused, Refusal

LARGEST_CSR_BYTES: Final = 4096  # one for P-256 has about 400


def requested_key(csr: bytes, node: str) -> ec.EllipticCurvePublicKey:
    """The key that the request (PEM) proves to own. Raises EnrolmentRefused."""
    if len(csr) > LARGEST_CSR_BYTES:
        raise EnrolmentRefused(Refusal.CSR_TOO_LARGE, f"the request has {len(csr)} bytes; at most {LARGEST_CSR_BYTES} are read")
    try:
        request = x509.load_pem_x509_csr(csr)
        key = request.public_key()
        # Before the signature: checking one of a giant key is work that nobody should be able to order.
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise EnrolmentRefused(Refusal.CSR_KEY, "the request's key is no ECDSA key on P-256; make one of that kind")
        if not request.is_signature_valid:
            raise EnrolmentRefused(Refusal.CSR_SIGNATURE, "the request is not signed by its own key")
        _check_names(request, node)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise EnrolmentRefused(Refusal.CSR_UNREADABLE, f"the request cannot be read: {str(error)[:200]}") from error
    return key


def key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 (hex) of the key's SubjectPublicKeyInfo."""
    return hashlib.sha256(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def _check_names(request: x509.CertificateSigningRequest, node: str) -> None:
    subject = [(attribute.oid, attribute.value) for attribute in request.subject]
    if subject != [(NameOID.COMMON_NAME, node)]:
        shown = request.subject.rfc4514_string()[:100]
        raise EnrolmentRefused(Refusal.CSR_NAME, f"the request is for {shown!r}, the node is {node!r}: its subject is CN={node}")
    for extension in request.extensions:
        if extension.oid != ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            name = extension.oid.dotted_string
            raise EnrolmentRefused(Refusal.CSR_EXTENSIONS, f"the request asks for the extension {name}; none is given on request")
        if list(extension.value) != [x509.DNSName(node)]:
            detail = f"the request asks for other names than {node}; a certificate names its node and nothing else"
            raise EnrolmentRefused(Refusal.CSR_NAME, detail)
