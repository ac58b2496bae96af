"""The file of a zone's DNSSEC keys: made at the first start, changed whole by rename under a lock, copied to further servers.

Earlier versions had one key for everything in `{zone}.pem`. It is taken over as the ksk when there is no newer file, and a first
rollover of the zsk gives the zone its second key.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY
import dns.rrset
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm, DSDigest
from dns.rdatatype import CDNSKEY, CDS, DNSKEY
from pydantic import Field, ValidationError

from dnssteer import keyroll
from dnssteer.keyroll import KeyPlace, Keys, Moved, Role, State, Step, Timing
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.wholefiles import make_once
from headwater.settings.deployment import Deployment
from headwater.settings.model import Settings

# Zone key; a ksk is a secure entry point besides (RFC 4034 section 2.1.1).
FLAGS: Final = {Role.KSK: 0x0101, Role.ZSK: 0x0100}
_FORM: Final = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class StoredZoneKey(Settings):
    """One key as the file holds it. Times are unix seconds."""

    tag: int = Field(description="Key tag.")
    role: Role = Field(description="What it is for.")
    state: State = Field(description="Where it is in its rollover.")
    since: float = Field(description="Since when it is there.")
    ds_seen_at: float | None = Field(None, description="Since when the parent is known to have its DS.")
    ds_ttl_s: float = Field(0.0, description="TTL of the parent's DS set.")
    private: str = Field(description="The private key, PEM.", repr=False)


class StoredZoneKeys(Settings):
    """The file."""

    format: Literal[1] = Field(1, description="Version of this file's format.")
    keys: list[StoredZoneKey] = Field(description="Every key that is published.", min_length=1)


class ZoneKey:
    """A private key and its DNSKEY record."""

    def __init__(self, private: ec.EllipticCurvePrivateKey, role: Role) -> None:
        self.private = private
        self.record: dns.rdtypes.ANY.DNSKEY.DNSKEY = dns.dnssec.make_dnskey(
            private.public_key(), algorithm=Algorithm.ECDSAP256SHA256, flags=FLAGS[role], protocol=3
        )
        self.tag = dns.dnssec.key_id(self.record)

    def pem(self) -> str:
        return self.private.private_bytes(*_FORM).decode("ascii")


@dataclass(frozen=True)
class KeySet:
    """All keys of the zone at one moment: where each is, and its key by tag."""

    places: Keys
    by_tag: Mapping[int, ZoneKey]

    @cached_property
    def of_keys(self) -> list[ZoneKey]:
        """What signs DNSKEY, CDS and CDNSKEY."""
        return [self.by_tag[place.tag] for place in keyroll.signs_keys(self.places)]

    @cached_property
    def of_zone(self) -> list[ZoneKey]:
        """What signs everything else."""
        return [self.by_tag[keyroll.signs_zone(self.places).tag]]

    def records(self, kind: int, zone: dns.name.Name, ttl_s: int) -> dns.rrset.RRset | None:
        """The set DNSKEY, CDS or CDNSKEY of the zone; None for another type."""
        wanted = self.by_tag[keyroll.wanted_at_parent(self.places).tag].record
        match kind:
            case dns.rdatatype.DNSKEY:
                return dns.rrset.from_rdata_list(zone, ttl_s, [self.by_tag[place.tag].record for place in self.places])
            case dns.rdatatype.CDS:
                return dns.rrset.from_text(zone, ttl_s, dns.rdataclass.IN, CDS, _ds_text(zone, wanted))
            case dns.rdatatype.CDNSKEY:
                return dns.rrset.from_text(zone, ttl_s, dns.rdataclass.IN, CDNSKEY, wanted.to_text())
        return None

    def delegation(self, zone: dns.name.Name, ttl_s: int) -> str:
        """The DS record that the parent zone should have, as a line of a zone file."""
        return f"{zone} {ttl_s} IN DS {_ds_text(zone, self.by_tag[keyroll.wanted_at_parent(self.places).tag].record)}"


KEY_TYPES: Final = frozenset({int(DNSKEY), int(CDS), int(CDNSKEY)})


def _ds_text(zone: dns.name.Name, record: dns.rdtypes.ANY.DNSKEY.DNSKEY) -> str:
    return dns.dnssec.make_ds(zone, record, DSDigest.SHA256).to_text()


def key_folder(deployment: Deployment) -> Path:
    """Where the keys of zones are."""
    return deployment.data / "dns" / "zone-keys"


class ZoneKeys:
    """The keys of `zone` in `folder`. Several processes may hold them; `clock` is unix time. Raises CannotStart."""

    def __init__(self, folder: Path, zone: str, *, clock: Callable[[], float] = time.time) -> None:
        self._file = folder / f"{zone}.json"
        self._legacy = folder / f"{zone}.pem"
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        make_once(self._file, self._first().encode("ascii"))
        self.current = self._loaded()

    def look(self, timing: Timing) -> list[Moved] | None:
        """Takes a changed file over and makes the steps that are due. None when nothing changed."""
        now = self._clock()
        changed = self._stamp != self._stamp_now()
        if changed:
            self.current = self._loaded()
        if not keyroll.due(self.current.places, now, timing) and not keyroll.advanced(self.current.places, now, timing)[1]:
            return [] if changed else None
        moved: list[Moved] = []
        with self._changing() as before:
            for role in keyroll.due(before.places, now, timing):
                moved += self._begin(role, now)
            places, steps = keyroll.advanced(self.current.places, now, timing)
            self._write(places, self.current.by_tag)
        return moved + steps

    def roll(self, role: Role) -> KeyPlace:
        """Begins a rollover. Raises keyroll.CannotRoll."""
        with self._changing():
            self._begin(role, self._clock())
            return self.current.places[-1]

    def ds_seen(self, ttl_s: float) -> KeyPlace:
        """The parent has the DS of the submitted key. Raises keyroll.CannotRoll."""
        with self._changing() as before:
            self._write(keyroll.ds_seen(before.places, self._clock(), ttl_s), before.by_tag)
            return keyroll.wanted_at_parent(self.current.places)

    def _begin(self, role: Role, now: float) -> list[Moved]:
        key = _fresh(role, set(self.current.by_tag))
        self._write(keyroll.begun(self.current.places, role, key.tag, now), {**self.current.by_tag, key.tag: key})
        return [Moved(key.tag, role, Step.PUBLISHED)]

    def _first(self) -> str:
        """What a first start writes: two keys, or the one of an earlier version."""
        if self._file.exists() or not self._legacy.exists():
            first = new_keys(self._clock())
        else:
            key = ZoneKey(_private(self._legacy, self._legacy.read_bytes()), Role.KSK)
            first = KeySet((KeyPlace(key.tag, Role.KSK, State.ACTIVE, self._legacy.stat().st_mtime),), {key.tag: key})
        return _text(first.places, first.by_tag)

    def _loaded(self) -> KeySet:
        stamp = self._stamp_now()
        try:
            stored = StoredZoneKeys.model_validate_json(self._file.read_bytes())
        except ValidationError:
            # The error's own text may quote the file, and with it a key.
            raise CannotStart(f"{self._file}: it is damaged; put the zone's keys there again from a backup") from None
        by_tag = {key.tag: ZoneKey(_private(self._file, key.private.encode("ascii")), key.role) for key in stored.keys}
        if any(tag != key.tag for tag, key in by_tag.items()) or not any(
            key.role is Role.KSK and key.state is State.ACTIVE for key in stored.keys
        ):
            raise CannotStart(f"{self._file}: its keys do not fit together; put the zone's keys there again from a backup")
        self._stamp = stamp
        places = tuple(KeyPlace(k.tag, k.role, k.state, k.since, k.ds_seen_at, k.ds_ttl_s) for k in stored.keys)
        return KeySet(places, by_tag)

    def _stamp_now(self) -> tuple[int, int]:
        # A change is a rename, so the file is another one each time, however coarse its clock is.
        found = self._file.stat()
        return found.st_ino, found.st_mtime_ns

    @contextmanager
    def _changing(self) -> Iterator[KeySet]:
        descriptor = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self.current = self._loaded()
            yield self.current
        finally:
            os.close(descriptor)

    def _write(self, places: Keys, by_tag: Mapping[int, ZoneKey]) -> None:
        draft = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(_text(places, by_tag))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # a rename is on disk only when its folder is
        finally:
            os.close(folder)
        self.current = self._loaded()


def new_keys(now: float) -> KeySet:
    """The keys of a new zone, one of each role."""
    ksk = _fresh(Role.KSK, set())
    zsk = _fresh(Role.ZSK, {ksk.tag})
    places = tuple(KeyPlace(key.tag, role, State.ACTIVE, now) for role, key in ((Role.KSK, ksk), (Role.ZSK, zsk)))
    return KeySet(places, {ksk.tag: ksk, zsk.tag: zsk})


def _fresh(role: Role, taken: set[int]) -> ZoneKey:
    """A new key, of a tag that tells it from the others."""
    while (key := ZoneKey(ec.generate_private_key(ec.SECP256R1()), role)).tag in taken:
        pass
    return key


def _private(file: Path, pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except ValueError as error:
        raise CannotStart(f"{file}: {error}; put the zone's key there again: a new one needs a new DS at the parent") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise CannotStart(f"{file}: an ECDSA P-256 key was expected; put the zone's key there again")
    return private


def _text(places: Keys, by_tag: Mapping[int, ZoneKey]) -> str:
    keys = [
        StoredZoneKey(
            tag=place.tag, role=place.role, state=place.state, since=place.since, ds_seen_at=place.ds_seen_at,
            ds_ttl_s=place.ds_ttl_s, private=by_tag[place.tag].pem(),
        )
        for place in places
    ]  # fmt: skip
    return StoredZoneKeys(keys=keys).model_dump_json(indent=1) + "\n"
