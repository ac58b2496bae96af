"""DNSSEC by signing answers as they are asked for (ECDSA P-256 with SHA-256, RFC 6605). Signatures are remembered.

One key signs everything (a combined signing key, flags 257). It is made in the data folder; its DS goes to the parent zone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import dns.dnssec
import dns.name
import dns.rdatatype
import dns.rrset
from cachetools import LRUCache
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm, DSDigest
from dns.rdatatype import AAAA, DNSKEY, HTTPS, NSEC, A

from dnssteer import denial
from dnssteer.query import Query
from dnssteer.reply import Outcome, Sections
from dnssteer.zone import Zone
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.secretonce import make_once
from headwater.settings.deployment import Deployment

KEY_FLAGS: Final = 0x0101  # zone key, secure entry point (RFC 4034 section 2.1.1)
KEY_TTL_S: Final = 3600
# Clocks of resolvers may be an hour behind; a signature is made anew when half of its days are over.
BACKDATED_S: Final = 3600
VALID_S: Final = 7 * 86_400
RENEW_S: Final = VALID_S // 2
MAX_SIGNATURES: Final = 65_536


class ZoneKey:
    """The private key and its DNSKEY record."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self.private = private
        self.record = dns.dnssec.make_dnskey(
            private.public_key(), algorithm=Algorithm.ECDSAP256SHA256, flags=KEY_FLAGS, protocol=3
        )

    def delegation(self, zone: dns.name.Name) -> str:
        """The DS record for the parent zone, as a line of a zone file."""
        digest = dns.dnssec.make_ds(zone, self.record, DSDigest.SHA256)
        return f"{zone} {KEY_TTL_S} IN DS {digest.to_text()}"


def key_folder(deployment: Deployment) -> Path:
    """Where the keys of zones are."""
    return deployment.data / "dns" / "zone-keys"


def zone_key(folder: Path, zone: str) -> ZoneKey:
    """The zone's key in `folder`, made when it is not there. Raises CannotStart."""
    file = folder / f"{zone}.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    make_once(file, ec.generate_private_key(ec.SECP256R1()).private_bytes(*form))
    try:
        private = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except ValueError as error:
        raise CannotStart(f"{file}: {error}; put the zone's key there again: a new one needs a new DS at the parent") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise CannotStart(f"{file}: an ECDSA P-256 key was expected; put the zone's key there again")
    return ZoneKey(private)


class OnlineSigning:
    """Signs the sections of an answer. Its memory of signatures outlives snapshots: it goes by what was signed."""

    def __init__(self, key: ZoneKey) -> None:
        self._key = key
        self._signatures: LRUCache[bytes, tuple[float, dns.rrset.RRset]] = LRUCache(MAX_SIGNATURES)

    def keys(self, zone: Zone) -> dns.rrset.RRset:
        return dns.rrset.from_rdata(zone.origin, KEY_TTL_S, self._key.record)

    def signed(self, query: Query, sections: Sections, zone: Zone, now: float) -> Sections:
        """Every set of ours gets its signature; what does not exist is denied. Refusals stay as they are."""
        if sections.outcome not in (Outcome.NOERROR, Outcome.NODATA, Outcome.NXDOMAIN):
            return sections
        authority = [*sections.authority]
        name = query.question.name.canonicalize()
        negative_s = min(zone.soa.ttl, zone.soa[0].minimum)
        if sections.outcome is Outcome.NODATA:
            made = denial.nodata(name, types_at(name, zone) - {query.question.qtype}, zone.origin, negative_s)
            if query.question.qtype == NSEC:  # which the name has, now that it was asked for
                sections, authority = replace(sections, outcome=Outcome.NOERROR, answer=(made,)), []
            else:
                authority.append(made)
        elif sections.outcome is Outcome.NXDOMAIN:
            authority += denial.nxdomain(name, closest_encloser(name, zone), zone.origin, negative_s)
        return replace(
            sections,
            answer=self._with_signatures(sections.answer, zone, now),
            authority=self._with_signatures(tuple(authority), zone, now),
            additional=self._with_signatures(sections.additional, zone, now),
        )

    def _with_signatures(self, rrsets: tuple[dns.rrset.RRset, ...], zone: Zone, now: float) -> tuple[dns.rrset.RRset, ...]:
        return tuple(one for rrset in rrsets for one in (rrset, self._signature(rrset, zone, now)))

    def _signature(self, rrset: dns.rrset.RRset, zone: Zone, now: float) -> dns.rrset.RRset:
        # The order of a set means nothing to its signature (RFC 4034 section 6.3), nor does the case of its owner.
        records = sorted(record.to_digestable() for record in rrset)
        owner = rrset.name.canonicalize().to_wire() or b""
        signed = b"".join([owner, rrset.ttl.to_bytes(4, "big"), int(rrset.rdtype).to_bytes(2, "big"), *records])
        known = self._signatures.get(signed)
        if known is None or now - known[0] > RENEW_S:
            made = dns.dnssec.sign(
                rrset, self._key.private, zone.origin, self._key.record,
                inception=int(now - BACKDATED_S), expiration=int(now + VALID_S),
            )  # fmt: skip
            known = self._signatures[signed] = (now, dns.rrset.from_rdata(rrset.name, rrset.ttl, made))
        return dns.rrset.from_rdata_list(rrset.name, rrset.ttl, list(known[1]))


def types_at(name: dns.name.Name, zone: Zone) -> set[int]:
    """The types that a name has; of a steered name all that viewers of some region may get."""
    logical = zone.logical(name)
    if logical is not None:
        if logical.exists_only:
            return set()
        return {int(A), int(AAAA), int(HTTPS)} if logical.holds_addresses else {int(HTTPS)}
    found = {int(kind) for kind, rrset in zone.names.get(name, {}).items() if rrset}
    return found | {int(DNSKEY)} if name == zone.origin else found


def closest_encloser(name: dns.name.Name, zone: Zone) -> dns.name.Name:
    """The longest ancestor of `name` that exists."""
    ancestor = name.parent()
    while ancestor not in zone.names and zone.logical(ancestor) is None:
        ancestor = ancestor.parent()
    return ancestor
