"""Control's own certificate authority: made once, in control's folder, readable by control alone.

    {control's folder}/enrolment/authority.pem      key and certificate, mode 0600: keep a copy of it

Whoever has this file can be any node, and control. A control that has lost it makes a new one, and every node has to enrol anew.
"""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headwater.rules.nodeidentity import NodeIdentity
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.wholefiles import make_once

FILE: Final = Path("enrolment") / "authority.pem"
LIFETIME: Final = datetime.timedelta(days=20 * 365)
CLOCKS_APART_S: Final = 300.0  # a node whose clock is behind by less takes a new certificate at once; less for short lifetimes


class Authority:
    """The CA of one deployment. `fingerprint` is the SHA-256 (hex) of its certificate, as enrolment tokens carry it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.fingerprint = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def issue(self, identity: NodeIdentity, key: ec.EllipticCurvePublicKey, now: float, lifetime_s: float) -> bytes:
        """A certificate (PEM) for the identity, from `now` (Unix seconds) on, for client and server alike."""
        begins = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
        names = [x509.DNSName(identity.node), x509.UniformResourceIdentifier(identity.uri)]
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.node)]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins - datetime.timedelta(seconds=int(min(CLOCKS_APART_S, lifetime_s / 10))))
            .not_valid_after(begins + datetime.timedelta(seconds=int(lifetime_s)))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def open_authority(folder: Path, deployment: str, now: float) -> Authority:
    """The CA in control's `folder`, made when there is none. Blocks. Raises CannotStart."""
    file = folder / FILE
    try:
        if not file.exists():
            make_once(file, _made(deployment, now))
        file.chmod(0o600)
        content = file.read_bytes()
        key = serialization.load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("key and certificate are no pair")
    except (OSError, ValueError, TypeError) as error:
        cure = "restore it from a copy; or remove it, and enrol every node anew (docs/operations.md)"
        raise CannotStart(f"{file}, control's certificate authority, cannot be read ({error}): {cure}.") from error
    return Authority(key, certificate)


def _made(deployment: str, now: float) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    begins = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"headwater {deployment}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - datetime.timedelta(seconds=CLOCKS_APART_S))
        .not_valid_after(begins + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + certificate.public_bytes(serialization.Encoding.PEM)
