"""DNSSEC by signing answers as they are asked for (ECDSA P-256 with SHA-256, RFC 6605). Signatures are remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
from cachetools import LRUCache
from dns.rdatatype import AAAA, HTTPS, NSEC, A

from dnssteer import denial
from dnssteer.query import Query
from dnssteer.reply import Outcome, Sections
from dnssteer.zone import Zone
from dnssteer.zonekeys import KEY_TYPES, KeySet, ZoneKey

# Clocks of resolvers may be an hour behind; a signature is made anew when half of its days are over.
BACKDATED_S: Final = 3600
VALID_S: Final = 7 * 86_400
RENEW_S: Final = VALID_S // 2
MAX_SIGNATURES: Final = 65_536


class OnlineSigning:
    """Signs the sections of an answer. Its memory of signatures outlives snapshots: it goes by what was signed."""

    def __init__(self, keys: KeySet, key_ttl_s: int) -> None:
        self.keys = keys
        self._key_ttl_s = key_ttl_s
        self._signatures: LRUCache[bytes, tuple[float, dns.rdata.Rdata]] = LRUCache(MAX_SIGNATURES)

    def key_records(self, kind: int, zone: Zone) -> dns.rrset.RRset | None:
        return self.keys.records(kind, zone.origin, self._key_ttl_s)

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
        signers = self.keys.of_keys if rrset.rdtype in KEY_TYPES else self.keys.of_zone
        return dns.rrset.from_rdata_list(rrset.name, rrset.ttl, [self._signed_by(key, rrset, zone, now) for key in signers])

    def _signed_by(self, key: ZoneKey, rrset: dns.rrset.RRset, zone: Zone, now: float) -> dns.rdata.Rdata:
        # The order of a set means nothing to its signature (RFC 4034 section 6.3), nor does the case of its owner.
        records = sorted(record.to_digestable() for record in rrset)
        owner = rrset.name.canonicalize().to_wire() or b""
        what = [key.tag.to_bytes(2, "big"), owner, rrset.ttl.to_bytes(4, "big"), int(rrset.rdtype).to_bytes(2, "big"), *records]
        known = self._signatures.get(b"".join(what))
        if known is None or now - known[0] > RENEW_S:
            made = dns.dnssec.sign(
                rrset, key.private, zone.origin, key.record,
                inception=int(now - BACKDATED_S), expiration=int(now + VALID_S),
            )  # fmt: skip
            known = self._signatures[b"".join(what)] = (now, made)
        return known[1]


def types_at(name: dns.name.Name, zone: Zone) -> set[int]:
    """The types that a name has; of a steered name all that viewers of some region may get."""
    logical = zone.logical(name)
    if logical is not None:
        if logical.exists_only:
            return set()
        return {int(A), int(AAAA), int(HTTPS)} if logical.holds_addresses else {int(HTTPS)}
    found = {int(kind) for kind, rrset in zone.names.get(name, {}).items() if rrset}
    return found | KEY_TYPES if name == zone.origin else found


def closest_encloser(name: dns.name.Name, zone: Zone) -> dns.name.Name:
    """The longest ancestor of `name` that exists."""
    ancestor = name.parent()
    while ancestor not in zone.names and zone.logical(ancestor) is None:
        ancestor = ancestor.parent()
    return ancestor
