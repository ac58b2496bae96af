"""The key ring: one file per key in a private folder, and the keys' rotation.

    new -> next -> activate -> active -> retire -> retired

A key is *next* first: published, so that every node learns it before the first grant needs it. Several keys may be
*active*: all of them verify, and the one activated last signs, so a rotation refuses no viewer. A *retired* key is
refused, and its secret is gone from the file.

Every change happens under one lock file and lands by rename, so that two commands cannot interleave and a reader, or
a machine that loses power, sees a key's old file or its new one. Key files are never edited in place.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Field, ValidationError

from headwater.runtime.metrics import counter
from headwater.runtime.wholefiles import replace_whole, writing_alone
from headwater.settings.model import Settings
from headwater.settings.snapshot import Base64Bytes
from signer.grant import Algorithm, KeyId, KeyState, SigningKey, VerifyKey

SECRET_BYTES: Final = 32
# Nodes hold a long poll at control, which looks at the ring about once a second: 10 s is many times what a healthy node needs.
DISTRIBUTION_S: Final = 10.0
# A folder's change time ticks with the kernel (4 ms or 10 ms); a younger one may hide a second change in the same tick.
SETTLED_NS: Final = 50_000_000
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")

UNREADABLE = counter(
    "headwater_keyring_unreadable_total", "Readings of the key ring that failed; the keys read before stay in use."
)


class KeyRingError(Exception):
    """The ring refuses, or cannot be read; the message is one sentence that names the cure."""


class StoredKey(Settings):
    """One key as its file holds it. Times are Unix seconds."""

    format: Literal[1] = Field(1, description="Version of this file's format.")
    key_id: str = Field(description="Key id.", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    algorithm: Algorithm = Field(description="Algorithm.")
    state: KeyState = Field(description="Place in the rotation.")
    created_at: float = Field(description="When the key was made, and published as next.")
    activated_at: float | None = Field(None, description="When it began to sign.")
    retired_at: float | None = Field(None, description="Since when it is refused.")
    public: Base64Bytes = Field(
        description="Ed25519: the public key; HMAC: the SHA-256 of the secret.", min_length=SECRET_BYTES, max_length=SECRET_BYTES
    )
    secret: Base64Bytes | None = Field(
        description="Ed25519 seed or HMAC secret; gone once retired.",
        repr=False,
        min_length=SECRET_BYTES,
        max_length=SECRET_BYTES,
    )

    def signs(self, now: float) -> bool:
        """Whether the key was allowed to sign at `now`, had no other been activated after it."""
        return self.activated_at is not None and self.activated_at <= now and (self.retired_at is None or now < self.retired_at)

    def published(self) -> VerifyKey:
        """What nodes are given. A retired HMAC key is named by its digest: nodes refuse it without its secret."""
        shared = self.secret if self.algorithm is Algorithm.HMAC_SHA256 else None
        return VerifyKey(KeyId(self.key_id), self.algorithm, self.state, shared or self.public)


def signing_one(keys: Iterable[StoredKey]) -> StoredKey | None:
    """The key that signs: of the active ones that which was activated last."""
    active = [key for key in keys if key.state is KeyState.ACTIVE]
    return max(active, key=lambda key: (key.activated_at or 0.0, key.key_id), default=None)


def last_signed_at(key: StoredKey, keys: Iterable[StoredKey], now: float) -> float | None:
    """Until when `key` signed (at most `now`), or None when it never did: a key signs while no later one is active."""
    if key.activated_at is None:
        return None
    later = [other for other in keys if (other.activated_at or 0.0) > key.activated_at]
    moment = now if key.retired_at is None else min(now, key.retired_at)
    while covering := [
        other.activated_at or 0.0 for other in later if other.signs(moment) and (other.activated_at or 0.0) < moment
    ]:
        moment = min(covering)
    return max(moment, key.activated_at)


class KeyRing:
    """The ring in `folder`. `clock` gives Unix seconds. Several processes may hold rings over one folder."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._read: tuple[int, tuple[StoredKey, ...]] | None = None

    def keys(self) -> list[StoredKey]:
        """Every key, oldest first. Raises KeyRingError when a file cannot be read and the ring never could."""
        return list(self._current())

    def signing_key(self) -> SigningKey:
        """The key to sign with now, read again when the ring changed. Raises KeyRingError when there is none."""
        key = signing_one(self._current())
        if key is None or key.secret is None:
            raise KeyRingError(
                f"{self.folder} holds no active key: make one with `headwater keys new`, then `headwater keys activate KEY`."
            )
        return SigningKey(KeyId(key.key_id), key.algorithm, key.secret)

    def published(self) -> list[VerifyKey]:
        """What verifies grants, retired keys included (so that their refusal has its own name), oldest first."""
        return [key.published() for key in self._current()]

    def ensure(self, algorithm: Algorithm | str) -> None:
        """Makes a first active key where none is active. Of several starters at once one makes it."""
        if self.folder.is_dir() and signing_one(self._current()) is not None:
            return
        with self._changing() as keys:
            if signing_one(keys) is None:
                now = self._clock()
                self._write(_made(Algorithm(algorithm), _new_id(keys, now), now, activated_at=now))

    def new(self, algorithm: Algorithm | str, key_id: str | None = None) -> StoredKey:
        """A new key in state next. Raises KeyRingError when `key_id` is taken or is none."""
        with self._changing() as keys:
            now = self._clock()
            chosen = key_id if key_id is not None else _new_id(keys, now)
            if not _KEY_ID.match(chosen):
                raise KeyRingError(f"{chosen!r} is no key id: use lower-case letters, digits and '-', at most 32.")
            if any(key.key_id == chosen for key in keys):
                raise KeyRingError(f"there is a key {chosen!r} already: choose another id, or leave it out.")
            key = _made(Algorithm(algorithm), chosen, now)
            self._write(key)
            return key

    def activate(self, key_id: str, *, distribution_s: float = DISTRIBUTION_S, force: bool = False) -> StoredKey:
        """Lets a next key sign from now on; the active ones go on verifying. Raises KeyRingError.

        A key that has been next for less than `distribution_s` may be unknown to a node still, which would refuse
        its grants: only `force` takes that risk.
        """
        with self._changing() as keys:
            key = _named(keys, key_id)
            now = self._clock()
            if key.state is not KeyState.NEXT:
                raise KeyRingError(
                    f"key {key_id!r} is {key.state}: only a next key is activated; make one with `headwater keys new`."
                )
            waited_s = now - key.created_at
            if waited_s < distribution_s and not force:
                raise KeyRingError(
                    f"key {key_id!r} is next since {max(waited_s, 0):.0f} s and some node may not know it yet: "
                    f"wait until it is {distribution_s:g} s, or use --force."
                )
            # After every other one even when the clock went back: the key activated last is the one that signs.
            after = max((other.activated_at for other in keys if other.activated_at is not None), default=0.0) + 0.001
            active = key.model_copy(update={"state": KeyState.ACTIVE, "activated_at": max(now, after)})
            self._write(active)
            return active

    def retire(self, key_id: str, *, lifetime_s: float, force: bool = False) -> StoredKey:
        """Refuses all of the key's grants from now on and forgets its secret. Raises KeyRingError.

        `lifetime_s` is what grants of this deployment live: while some may still be in use, only `force` retires.
        """
        with self._changing() as keys:
            key = _named(keys, key_id)
            now = self._clock()
            if key.state is KeyState.RETIRED:
                return key
            if key.state is KeyState.ACTIVE and signing_one(other for other in keys if other is not key) is None:
                raise KeyRingError(
                    f"key {key_id!r} is the only one that signs: first `headwater keys new` and activate the new one."
                )
            until = self.in_use_until(key, lifetime_s, keys)
            if until is not None and until > now and not force:
                raise KeyRingError(
                    f"grants of key {key_id!r} may be in use until {clock_text(until)}; retired now, their viewers are refused: "
                    "wait until then, or use --force."
                )
            retired = key.model_copy(update={"state": KeyState.RETIRED, "retired_at": now, "secret": None})
            self._write(retired)
            return retired

    def in_use_until(self, key: StoredKey, lifetime_s: float, keys: Iterable[StoredKey] | None = None) -> float | None:
        """When the last grant of `key` expires, if none was given more than `lifetime_s`; None when it never signed."""
        signed = last_signed_at(key, self._current() if keys is None else keys, self._clock())
        return None if signed is None else signed + lifetime_s

    def _current(self) -> tuple[StoredKey, ...]:
        """The keys, read again when the folder changed. What was read before stays when a reading fails."""
        try:
            changed_ns = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return ()
        if self._read is not None and self._read[0] == changed_ns:
            return self._read[1]
        try:
            keys = self._load()
        except KeyRingError as error:
            if self._read is None:
                raise
            UNREADABLE.inc()
            structlog.get_logger("headwater").warning(
                "the key ring cannot be read; serving by the keys read before", error=str(error)
            )
            return self._read[1]
        settled = time.time_ns() - changed_ns > SETTLED_NS
        self._read = (changed_ns if settled else -1, keys)
        return keys

    def _load(self) -> tuple[StoredKey, ...]:
        keys = [_stored(file) for file in self.folder.glob("*.json")]
        return tuple(sorted(keys, key=lambda key: (key.created_at, key.key_id)))

    @contextmanager
    def _changing(self) -> Iterator[tuple[StoredKey, ...]]:
        """The keys as they are, with nobody else changing them meanwhile."""
        with writing_alone(self.folder / ".lock"):
            try:
                yield self._load()
            finally:
                self._read = None

    def _write(self, key: StoredKey) -> None:
        replace_whole(self.folder / f"{key.key_id}.json", f"{key.model_dump_json(indent=1)}\n".encode("ascii"))


def clock_text(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _made(algorithm: Algorithm, key_id: str, now: float, *, activated_at: float | None = None) -> StoredKey:
    secret = secrets.token_bytes(SECRET_BYTES)
    if algorithm is Algorithm.ED25519:
        public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        public = hashlib.sha256(secret).digest()
    state = KeyState.NEXT if activated_at is None else KeyState.ACTIVE
    return StoredKey(
        key_id=key_id, algorithm=algorithm, state=state, created_at=now, activated_at=activated_at, public=public, secret=secret
    )


def _new_id(keys: Iterable[StoredKey], now: float) -> str:
    taken = {key.key_id for key in keys}
    day = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
    while (key_id := f"{day}-{secrets.token_hex(2)}") in taken:
        pass
    return key_id


def _named(keys: Iterable[StoredKey], key_id: str) -> StoredKey:
    known = {key.key_id: key for key in keys}
    if key_id not in known:
        raise KeyRingError(f"there is no key {key_id!r}; there are: {', '.join(known) or 'none'}.")
    return known[key_id]


def _stored(file: Path) -> StoredKey:
    try:
        key = StoredKey.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        # The error's own text may quote the file, and with it the secret.
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise KeyRingError(
            f"key file {file} cannot be read ({reason}): restore it from a backup, or move it out of the folder."
        ) from None
    if key.key_id != file.stem:
        raise KeyRingError(f"key file {file} holds key {key.key_id!r}: rename it to {key.key_id}.json.")
    return key
