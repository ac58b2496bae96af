"""Denial of existence by NSEC records that are made for the question and cover nothing else (RFC 4470). Pure.

A name that does not exist is denied by a record from just before it to just after it, and so is the wildcard that could have
answered it. Nothing that exists is told, and nothing that exists is denied. Names are in canonical form (lower case).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
from dns.rdataclass import IN
from dns.rdatatype import NSEC, RRSIG

MAX_LABEL: Final = 63
MAX_NAME: Final = 255
# Names that end in many of the highest byte stay behind all that anybody writes.
FILL: Final = b"\xff" * 3


def nodata(name: dns.name.Name, types: Iterable[int], apex: dns.name.Name, ttl_s: int) -> dns.rrset.RRset:
    """`name` exists in the zone `apex` and has `types` only; up to the first name that could be below it."""
    return _nsec(name, dns.name.Name((b"\x00", *name.labels)) if _room(name, 2) else _after(name, apex), types, ttl_s)


def nxdomain(name: dns.name.Name, encloser: dns.name.Name, apex: dns.name.Name, ttl_s: int) -> tuple[dns.rrset.RRset, ...]:
    """`name` does not exist, nor does a wildcard below `encloser`, the longest name that exists and ends as `name` does."""
    next_closer = dns.name.Name(name.labels[-len(encloser.labels) - 1 :])
    wildcard = dns.name.Name((b"*", *encloser.labels))
    denied = (next_closer,) if next_closer == wildcard else (next_closer, wildcard)
    return tuple(_nsec(_before(one), _after(one, apex), (), ttl_s) for one in denied)


def _nsec(owner: dns.name.Name, following: dns.name.Name, types: Iterable[int], ttl_s: int) -> dns.rrset.RRset:
    kinds = " ".join(
        dns.rdatatype.to_text(dns.rdatatype.RdataType.make(kind)) for kind in sorted({*map(int, types), int(RRSIG), int(NSEC)})
    )
    return dns.rrset.from_rdata(owner, ttl_s, dns.rdata.from_text(IN, NSEC, f"{following} {kinds}"))


def _room(name: dns.name.Name, more: int) -> bool:
    return sum(len(label) + 1 for label in name.labels) + more <= MAX_NAME


def _before(name: dns.name.Name) -> dns.name.Name:
    """A name between all that exist before `name` and `name` itself (canonical order, RFC 4034 section 6.1).

    `name` is a child of an existing name and has nothing below it that exists.
    """
    label, parent = name.labels[0], name.labels[1:]
    if label == b"\x00":
        return dns.name.Name(parent)
    if label[-1] == 0:
        # Right behind everything below the shorter label.
        return dns.name.Name((FILL, label[:-1], *parent)) if _room(name, 3) else dns.name.Name((label[:-1], *parent))
    last = label[-1] - 1
    if 0x41 <= last <= 0x5A:
        last = 0x40  # capitals are sorted as small letters
    shorter = label[:-1] + bytes([last])
    for fill in (FILL, FILL[:1], b""):
        if len(shorter) + len(fill) <= MAX_LABEL and _room(name, len(fill)):
            return dns.name.Name((shorter + fill, *parent))
    raise AssertionError("unreachable: the name without a fill is no longer than the name")


def _after(name: dns.name.Name, apex: dns.name.Name) -> dns.name.Name:
    """The first name behind `name` and all below it; the apex, where the zone has none (RFC 4034 section 4.1.1)."""
    label, parent = name.labels[0], name.labels[1:]
    if len(label) < MAX_LABEL and _room(name, 1):
        return dns.name.Name((label + b"\x00", *parent))
    while label:
        last = label[-1] + 1
        if last <= 0xFF:
            return dns.name.Name((label[:-1] + bytes([0x5B if 0x41 <= last <= 0x5A else last]), *parent))
        label = label[:-1]
    behind = dns.name.Name(parent)  # nothing below it is behind `name`
    return apex if behind == apex else _after(behind, apex)
