"""The digest of a body that is passed on while it arrives (RFC 9530): nobody gets the whole of a body that does not fit it."""

from __future__ import annotations

import hashlib


class DigestCheck:
    """Lets bytes go on, but for the last ones: these are held back until the digest is known to hold. It outlives the parent that
    sent them: what a dead one sent last goes on before what the next one sends."""

    def __init__(self, digest: bytes | None = None) -> None:
        """`digest` is a SHA-256; without one everything goes on."""
        self._digest = digest
        self._hash = hashlib.sha256()
        self._held = b""

    def feed(self, chunk: bytes, *, is_last: bool | None) -> bytes:
        """What may go on now. `is_last`: whether the body ends with this chunk; None where nobody knows."""
        if self._digest is None or not chunk:
            return chunk
        self._hash.update(chunk)
        if is_last is False:
            passed, self._held = self._held + chunk, b""
        else:
            passed, self._held = self._held, chunk
        return passed

    def end(self) -> tuple[bool | None, bytes]:
        """(whether the digest holds, None without one; the bytes that may go on then)."""
        if self._digest is None:
            return None, b""
        if self._hash.digest() != self._digest:
            return False, b""  # what is held stays so: the end may have been that of an answer too short, and another goes on
        held, self._held = self._held, b""
        return True, held
