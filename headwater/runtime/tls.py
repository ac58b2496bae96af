"""TLS contexts: several certificates by name, new files without a restart, mutual TLS between tiers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509

from headwater.runtime.httpsite import CannotStart
from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter
from headwater.settings.listening import CertificateFiles, TierTls, Tls

LOOK_S: Final = 2.0
_MINIMUM: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# RFC 9325 section 4.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

RELOADS = counter(
    "headwater_tls_reloads_total", "Changed certificate files taken up, or refused with the old ones kept.", ["outcome"]
)

# Whatever shows that a file was replaced: two files of one size in one tick of the clock still differ in inode.
Stamp = tuple[tuple[int, int, int] | None, ...]


class Certificates:
    """The certificates of one listener. `context` is for a server of the standard library: it hands every handshake the right
    certificate. Whoever learns the client's wish otherwise takes the context of `chosen`."""

    def __init__(self, settings: Tls, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._stamp = _stamp(settings)
        try:
            self._first, self._by_name = _load(settings)
            self.context = _server_context(settings, settings.certificates[0])
        except (OSError, ValueError) as error:
            raise CannotStart(f"TLS on {settings.listen}: {_cure(error)}") from error
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self.chosen(name)

    def chosen(self, name: str | None) -> ssl.SSLContext:
        """Exact before wildcard, one label deep (RFC 9525 section 6.3); the first certificate for all other names."""
        wanted = (name or "").lower().rstrip(".")
        exact = self._by_name.get(wanted)
        return exact or self._by_name.get("*." + wanted.partition(".")[2]) or self._first

    @property
    def only(self) -> ssl.SSLContext | None:
        """The context, when there is one certificate for all names."""
        return self._first if len(self._settings.certificates) == 1 else None

    async def watch(self) -> None:
        """Takes up changed files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Reads the files again if they changed. Files that do not fit leave everything as it is."""
        stamp = _stamp(self._settings)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._first, self._by_name = _load(self._settings)
        except (OSError, ValueError) as error:
            RELOADS.labels("refused").inc()
            self._log.error("new certificate files refused; serving with the old ones", error=_cure(error))
        else:
            RELOADS.labels("taken").inc()
            self._log.info("new certificate files taken up", names=sorted(self._by_name))


class ParentCertificate:
    """What a node shows its parents, and whom it believes to be one. `context` is for new connections."""

    def __init__(self, settings: TierTls, log: Log) -> None:
        """Raises CannotStart."""
        self._settings = settings
        self._log = log
        self._stamp = self._stamp_now()
        try:
            self.context = _parent_context(settings)
        except (OSError, ValueError) as error:
            raise CannotStart(f"TLS towards parents ({settings.certificate}): {_cure(error)}") from error

    async def watch(self) -> None:
        """Takes up changed files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Reads the files again if they changed. Files that do not fit leave everything as it is."""
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.context = _parent_context(self._settings)
        except (OSError, ValueError) as error:
            RELOADS.labels("refused").inc()
            self._log.error("new certificate files towards parents refused; asking with the old ones", error=_cure(error))
        else:
            RELOADS.labels("taken").inc()
            self._log.info("new certificate files towards parents taken up")

    def _stamp_now(self) -> Stamp:
        return tuple(map(_file_stamp, (self._settings.authority, self._settings.certificate, self._settings.key)))


def _parent_context(settings: TierTls) -> ssl.SSLContext:
    """The client's side of TLS between tiers."""
    context = ssl.create_default_context(cafile=str(settings.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.certificate, settings.key)
    return context


def _load(settings: Tls) -> tuple[ssl.SSLContext, dict[str, ssl.SSLContext]]:
    """The first certificate's context, and every certificate's by each of its names."""
    contexts = [_server_context(settings, files) for files in settings.certificates]
    by_name: dict[str, ssl.SSLContext] = {}
    for files, context in zip(settings.certificates, contexts, strict=True):
        for name in _names(files.certificate):
            by_name.setdefault(name, context)
    return contexts[0], by_name


def _server_context(settings: Tls, files: CertificateFiles) -> ssl.SSLContext:
    for path in _paths(files):
        path.stat()  # its error names the file; the one of `load_cert_chain` does not
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM[settings.minimum]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key)
    if settings.client_authority is not None:
        context.load_verify_locations(settings.client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _names(certificate: Path) -> list[str]:
    """DNS names of the leaf, in lower case."""
    leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _stamp(settings: Tls) -> Stamp:
    return tuple(_file_stamp(path) for files in settings.certificates for path in _paths(files))


def _paths(files: CertificateFiles) -> Iterable[Path]:
    return files.certificate, files.key


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _cure(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"certificate and key do not fit or are no PEM files ({error.reason or error})"
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'} cannot be read ({error.strerror or error})"
    return f"a certificate cannot be read ({error})"
