"""This node's identity: its key, its certificate and control's CA, in one file that is replaced as a whole.

    {node's folder}/identity/node.pem       mode 0600

Every process of the node reads it; a changed file is taken up without a restart. The two TLS contexts stay the same objects: what
connects later shows the new certificate, what is connected already goes on.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headwater.rules.nodeidentity import NodeIdentity, identity_of_uri
from headwater.runtime.logs import Log
from headwater.runtime.metrics import gauge
from headwater.runtime.wholefiles import replace_secret

FILE: Final = Path("identity") / "node.pem"
LOOK_S: Final = 1.0

EXPIRES = gauge(
    "headwater_certificate_expires_timestamp_seconds", "When (Unix time) the certificate expires that this node shows to others."
)


class IdentityUnusable(Exception):
    """The file has no identity that can be used. The message says why."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the file has. Times are Unix seconds; `authority` is the CA's certificate (PEM)."""

    identity: NodeIdentity
    begins: float
    expires: float
    authority: bytes

    def renewal_due(self, now: float) -> bool:
        """At half of its lifetime, so that a control that is away for a while finds the other half left."""
        return now >= (self.begins + self.expires) / 2


class Identity:
    """Raises IdentityUnusable when the file has none. `server` asks for a client's certificate without insisting: whoever answers
    a request decides what it takes; `client` takes nobody but who was signed by the same CA."""

    def __init__(self, file: Path, log: Log) -> None:
        self.file = file
        self._log = log
        self._stamp = _stamp(file)
        self.held = read_identity(file)
        self.server = _Replaceable(ssl.PROTOCOL_TLS_SERVER)
        self.client = _Replaceable(ssl.PROTOCOL_TLS_CLIENT)
        self._load()

    def look(self) -> None:
        """Takes up a file that changed. One that cannot be used leaves everything as it is."""
        stamp = _stamp(self.file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.held = read_identity(self.file)
            self._load()
        except IdentityUnusable as error:
            self._log.error("the node's new certificate cannot be used; the old one stays", error=str(error))
        else:
            self._log.info("the node shows a new certificate", enrolment=self.held.identity.enrolment)

    async def watch(self) -> None:
        """Takes up changes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def expired(self, now: float | None = None) -> bool:
        return (time.time() if now is None else now) >= self.held.expires

    def _load(self) -> None:
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server.verify_mode = ssl.CERT_OPTIONAL
        server.num_tickets = 0  # a resumed session would show a certificate that nobody looks at again
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.set_alpn_protocols(["http/1.1"])
            try:
                context.load_verify_locations(cadata=self.held.authority.decode("ascii"))
                context.load_cert_chain(self.file)
            except (OSError, ValueError) as error:  # as ssl.SSLError is one
                raise IdentityUnusable(f"{self.file} cannot be used: {error}") from error
        self.server.now, self.client.now = server, client
        EXPIRES.set(self.held.expires)


class _Replaceable(ssl.SSLContext):
    """Begins each handshake by the context that is there `now`, for none forgets an authority that it was once given. Sites and
    clients hold this one; both event loops begin with `wrap_bio`."""

    now: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self.now.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def read_identity(file: Path) -> Held:
    """Raises IdentityUnusable."""
    try:
        content = file.read_bytes()
        key = serialization.load_pem_private_key(content, None)
        own, authority = x509.load_pem_x509_certificates(content)
        uris = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.UniformResourceIdentifier
        )
        identity = identity_of_uri(uris[0]) if len(uris) == 1 else None
        if identity is None or key.public_key() != own.public_key():
            raise ValueError("key and certificate are no node's")
        own.verify_directly_issued_by(authority)
    except FileNotFoundError as error:
        raise IdentityUnusable(f"{file} is not there") from error
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature) as error:
        raise IdentityUnusable(f"{file} cannot be used: {error or type(error).__name__}") from error
    begins, expires = own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp()
    return Held(identity, begins, expires, authority.public_bytes(serialization.Encoding.PEM))


def write_identity(file: Path, key: ec.EllipticCurvePrivateKey, certificate: bytes, authority: bytes) -> None:
    """Replaces the file. Blocks for its fsync."""
    replace_secret(file, private_pem(key) + certificate + authority)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def signing_request(key: ec.EllipticCurvePrivateKey, node: str) -> bytes:
    """What a node sends to have its key signed (PEM)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
